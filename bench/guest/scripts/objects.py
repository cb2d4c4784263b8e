# Objects, dictionaries, generators, big integers and sorting.
class Node:
    __slots__ = ("key", "left", "right")

    def __init__(self, key):
        self.key = key
        self.left = self.right = None

    def insert(self, key):
        node = self
        while True:
            side = "left" if key < node.key else "right"
            below = getattr(node, side)
            if below is None:
                setattr(node, side, Node(key))
                return
            node = below

    def __iter__(self):
        if self.left:
            yield from self.left
        yield self.key
        if self.right:
            yield from self.right


def numbers(count, seed=42):
    for _ in range(count):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        yield seed


root = Node(1 << 30)
for number in numbers(4000):
    root.insert(number)
checksum = 0
for place, key in enumerate(root):
    checksum = (checksum * 31 + place ^ key) % 1000000007

words = {}
for number in numbers(30000, 7):
    words.setdefault("k%d" % (number % 997), []).append(number)
longest = sorted(words.items(), key=lambda item: (-len(item[1]), item[0]))[:5]

factorial = 1
for i in range(1, 400):
    factorial *= i
print(checksum, [(key, len(values), sum(values)) for key, values in longest], sum(map(int, str(factorial))))
