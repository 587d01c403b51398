#!/bin/sh
# Makes the static library that is delivered: prelink.sh LD OBJCOPY AR IN.a OUT.a
# One object out of all; names of hidden visibility become local to it, so that a program may have functions of the same
# name, and only the interface can be called. The same input gives the same bytes (ar D).
set -eu
ld=$1 objcopy=$2 ar=$3 in=$4 out=$5
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$ld" -r --whole-archive "$in" -o "$work/spacellama.o"
"$objcopy" --localize-hidden "$work/spacellama.o"
rm -f "$out"
"$ar" rcsD "$out" "$work/spacellama.o"
