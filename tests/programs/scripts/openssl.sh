# Keys, certificates, digests, ciphers; a TLS server and its client on loopback.
set -e
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
openssl genrsa -out key 2048 2>/dev/null
openssl rsa -in key -check -noout
openssl req -new -x509 -key key -subj /CN=x -days 3 -out certificate
openssl x509 -in certificate -noout -subject
echo text > plain
openssl dgst -sha256 plain
openssl dgst -sha256 -sign key -out signature plain
openssl rsa -in key -pubout -out public 2>/dev/null
openssl dgst -sha256 -verify public -signature signature plain
openssl enc -aes-256-cbc -pbkdf2 -pass pass:a -in plain -out secret
openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:a -in secret
openssl rand 10 | wc -c
# The server says ACCEPT when it listens, and where.
mkfifo said
openssl s_server -accept 127.0.0.1:0 -key key -cert certificate -www > said 2>&1 &
server=$!
exec 3< said
while read -r word address <&3 && [ "$word" != ACCEPT ]; do :; done
cat <&3 > rest &
printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -quiet -connect "$address" 2>/dev/null | head -1
kill $server
wait $server || echo $?
