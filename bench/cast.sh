#!/usr/bin/env bash
# Compares the API's claims about KMS contracts with the chain, with one cast call per id, and prints the differences.
# Usage: cast.sh API_URL CHAIN RPC_URL. Exit code 1 if something differs. Needs cast, curl and jq.
set -euo pipefail

api=$1 chain=$2 rpc=$3
declare -A getter=([device]='kmsAllowedDeviceIds(bytes32)(bool)' [os_image]='allowedOsImages(bytes32)(bool)')

block=$(cast block finalized --field number --rpc-url "$rpc")
claims=$(curl --silent --show-error --fail "$api/kms/on-chain/$chain" | jq -r '.contracts[]
  | (.contract_address | ascii_downcase) as $contract
  | ((.devices[] | ["device", .device_id, .on_chain_allowed]), (.os_images[] | ["os_image", .os_image_hash, .on_chain_allowed]))
  | select(.[1] != null and .[2] != null)
  | [$contract, .[0], "0x" + (.[1] | ascii_downcase | ltrimstr("0x")), .[2]] | join(" ")')
differ=0
while read -r contract list id claim; do
  says=$(cast call --rpc-url "$rpc" --block "$block" "$contract" "${getter[$list]}" "$id")
  if [[ $says != "$claim" ]]; then
    echo "$contract $list $id $claim $says"
    differ=1
  fi
done <<<"$claims"
exit $differ
