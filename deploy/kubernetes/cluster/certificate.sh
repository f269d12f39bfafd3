#!/bin/sh
# A certificate for this pod's address, of the cluster's authority; Ray checks addresses.
set -eu
umask 077
openssl req -x509 -CA /run/authority/tls.crt -CAkey /run/authority/tls.key \
  -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$POD_IP" \
  -addext "subjectAltName=IP:$POD_IP,IP:127.0.0.1,DNS:localhost,DNS:head" \
  -addext "basicConstraints=critical,CA:FALSE" \
  -keyout /run/ray/tls.key -out /run/ray/tls.crt
cp /run/authority/tls.crt /run/ray/ca.crt
