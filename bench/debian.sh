#!/usr/bin/env bash
# debian.sh PROGRAM FOLDER [PACKAGE]: prints the path of a server program. One that is not installed is unpacked
# into the folder from the package, which has the program's name unless another is given, with the libraries that
# it lacks; nothing is installed or started, since a package would bring a service that listens on ports of its own.
set -euo pipefail
program=$1 folder=$2 package=${3:-$1}

if path=$(PATH=$PATH:/usr/sbin command -v "$program"); then
  echo "$path"
  exit
fi
unpacked() {
  local places=$folder/usr/sbin:$folder/usr/bin place
  for place in "$folder"/usr/lib/postgresql/*/bin; do places=$places:$place; done
  PATH=$places command -v "$program"
}
if ! unpacked >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "$program is needed and cannot be had from here: please install it." >&2
    exit 1
  fi
  mkdir -p "$folder/archives/partial"
  fetch() {
    apt-get -qq -y -o Debug::NoLocking=1 -o Dir::Cache::archives="$folder/archives" \
      --download-only --no-install-recommends install "$package" >&2
  }
  if ! fetch; then
    if [ "$(id -u)" != 0 ]; then
      echo "$program cannot be downloaded: please install it, or refresh the package lists with 'sudo apt-get update' and try again." >&2
      exit 1
    fi
    apt-get -qq update >&2
    fetch
  fi
  for package in "$folder"/archives/*.deb; do
    dpkg -x "$package" "$folder"
  done
  rm -r "$folder/archives"
fi
# Not what a link leads to: some programs are several, told apart by their name.
realpath -s "$(unpacked)"
