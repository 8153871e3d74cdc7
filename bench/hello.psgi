# The same hello for PSGI, Perl's WSGI.
my $body = "Hello, world!\n";

sub {
    return [200, ['Content-Type' => 'text/plain; charset=utf-8', 'Content-Length' => length $body], [$body]];
};
