-- Tables, closures, strings, and an object of numbers.
local function permutations(n)
  local items, count = {}, 0
  for i = 1, n do items[i] = i end
  local function go(k)
    if k == 0 then count = count + items[1] * items[n] return end
    for i = 1, k do
      items[i], items[k] = items[k], items[i]
      go(k - 1)
      items[i], items[k] = items[k], items[i]
    end
  end
  go(n)
  return count
end

local function life(size, steps)
  local cells = {}
  for i = 0, size * size - 1 do cells[i] = (i * i + i // 3) % 5 == 0 and 1 or 0 end
  for _ = 1, steps do
    local after = {}
    for y = 0, size - 1 do
      for x = 0, size - 1 do
        local sum = 0
        for dy = -1, 1 do
          local row = (y + dy) % size * size
          for dx = -1, 1 do sum = sum + cells[row + (x + dx) % size] end
        end
        local here = cells[y * size + x]
        after[y * size + x] = (sum == 3 or sum == 4 and here == 1) and 1 or 0
      end
    end
    cells = after
  end
  local alive = 0
  for i = 0, size * size - 1 do alive = alive + cells[i] end
  return alive
end

local parts = {}
for i = 1, 20000 do parts[#parts + 1] = string.format("%d:%x", i, i * 77) end
local text = table.concat(parts, ",")
local digits = 0
for number in text:gmatch("(%d+):") do digits = digits + #number end
print(permutations(8), life(48, 30), digits, #text:upper():gsub("A", "bc"))
