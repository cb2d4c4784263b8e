# A shell's arithmetic, functions and words.
step() {
  sum=$(((sum * 31 + $1) % 1000003))
  case $sum in
    *7) odd="$odd.${sum#?}" ;;
    *) odd=${odd%.*} ;;
  esac
}
i=0 sum=1 odd=
while [ $i -lt 20000 ]; do
  i=$((i + 1))
  step $i
done
echo $sum $odd
