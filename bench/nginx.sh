#!/bin/sh
# Unpacks Debian's nginx into the folder given and prints the path of its binary. Nothing is installed
# or started: the package would bring a service that listens on port 80 of every address.
set -eu
folder=$1
binary=$folder/usr/sbin/nginx
if [ ! -x "$binary" ]; then
    mkdir -p "$folder"
    cd "$folder"
    apt-get download nginx >&2
    dpkg -x nginx_*.deb .
    rm nginx_*.deb
fi
exec readlink -f "$binary"
