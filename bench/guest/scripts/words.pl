# Counts words in a hash, sorts them, and takes strings apart.
use strict;
my (%count, %after);
my $before = '';
while (<>) {
  for my $word (split) {
    $count{$word}++;
    $after{$before}{$word}++ if length $before < 5;
    $before = $word;
  }
}
for my $word (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count) {
  my @next = sort keys %{$after{$word} // {}};
  print "$word $count{$word} ", scalar(@next), " ", substr(join('-', reverse @next), 0, 20), "\n";
}
