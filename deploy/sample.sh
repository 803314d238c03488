#!/bin/sh
# Puts the sample archive into the model store /store, unless that has archives.
set -e
for archive in /store/*.mar /store/*.tar.gz /store/*.model; do
    if [ -e "$archive" ]; then
        echo "The model store has archives already: no sample is added."
        exit
    fi
done
cp /digits.mar /store/.digits.mar.new # what begins with a dot is not served
chmod 644 /store/.digits.mar.new
chown --reference=/store /store/.digits.mar.new
mv /store/.digits.mar.new /store/digits.mar
echo "digits.mar is in the model store: curl -T examples/digits/seven.png http://127.0.0.1:8080/predictions/digits"
