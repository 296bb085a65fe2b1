# Threads that share, forks, alarms, pipes, sockets.
perl -e '
    use threads; use threads::shared;
    my $n : shared = 0;
    my @t = map { threads->create(sub { for (1 .. 300) { lock($n); $n++ } $_[0] * 2 }, $_) } 1 .. 6;
    print join(",", map { $_->join } @t), " $n\n";
'
perl -e '
    use IO::Socket::INET; use Socket;
    for my $i (1 .. 20) { my $p = fork; exit $i if !$p; push @p, $p }
    for (@p) { waitpid($_, 0); print $? >> 8, "\n" }
    pipe(R, W);
    if (!fork) { close R; print W "from child\n"; exit }
    close W; print <R>; wait;
    $SIG{ALRM} = sub { die "alarm\n" };
    eval { alarm 1; select(undef, undef, undef, 50) };
    print $@;
    open(P, "-|", "echo piped; exit 4"); print <P>; close P; print $? >> 8, "\n";
    my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die $!;
    if (!fork) { print { IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $s->sockport) } "net\n"; exit }
    my $peer = $s->accept; print <$peer>; wait;
    exit 6;
'
