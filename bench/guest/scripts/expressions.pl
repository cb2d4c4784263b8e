# Regular expressions: alternatives, captures, look-ahead, back references, substitutions.
use strict;
local $/;
my $text = <>;
my ($pairs, $doubled, $inner) = (0, 0, 0);
$pairs++ while $text =~ /\b(\w+)ing\s+(?:the|and|of)\s+(\w{3,})/g;
$doubled++ while $text =~ /(\w)\1(?=\w*[aeiou]\b)/g;
$inner += length $1 while $text =~ /\b[a-m](\w*?)[n-z]{2}/g;
my $changed = ($text =~ s/(\w+) (\w+)([.,])/$2 $1$3/g);
$text =~ tr/a-y/b-z/;
print "$pairs $doubled $inner $changed ", unpack('%32C*', $text), "\n";
