# fork and pipes in perl: workers answer through pipes, others are read by open "-|".
use strict; use warnings;
$| = 1;
my $rounds = shift;
for my $r (1 .. $rounds) {
    my @readers;
    for my $w (0 .. 2) {
        pipe(my $in, my $out) or die;
        my $pid = fork // die;
        if (!$pid) {
            close $in;
            my $x = $r * 10 + $w;
            $x = ($x * 69069 + 1) % 4294967296 for 1 .. 3000;
            print $out "worker $w: $x\n" x 3;
            close $out;
            exit $w + 1;
        }
        close $out;
        push @readers, [$pid, $in];
    }
    for (@readers) {
        my ($pid, $in) = @$_;
        my $lines = join "", <$in>;
        waitpid($pid, 0) == $pid or die "lost $pid";
        print "$r ", length($lines), " ", ($lines =~ /: (\d+)/)[0], " ", $? >> 8, "\n";
    }
    open(my $list, "-|", "seq", 1, $r % 50 + 1) or die;
    my $sum = 0;
    $sum += $_ while <$list>;
    close $list;
    print "$r sum $sum $?\n";
}
