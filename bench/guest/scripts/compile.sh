# One file compiled again and again; the object of the last time is the output.
i=0
while [ $i -lt 20 ]; do
  i=$((i + 1))
  tcc -c -o /tmp/object /bench/source.c
done
cat /tmp/object
