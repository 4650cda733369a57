#!/usr/bin/env bash
# Installs what the end-to-end tests need: programs into e2e/.tools/bin, npm packages into e2e/node_modules, and
# Debian packages if their programs are missing. Every version is pinned, except Debian's. Does nothing if all is there.
# With the argument "lint" it installs only the linters, with "beacon" also a beacon node.
set -euo pipefail
cd "$(dirname "$0")"

geth=v1.17.8
staticcheck=v0.8.2
actionlint=v1.7.12
gosec=v2.23.0

tools=$PWD/.tools
mkdir -p "$tools/bin"

# go_tool PROGRAM PACKAGE VERSION
go_tool() {
  if [[ -x $tools/bin/$1 && -f $tools/$1.version && $(<"$tools/$1.version") == "$3" ]]; then
    return
  fi
  echo "setup: building $1 $3"
  GOBIN=$tools/bin GOFLAGS= go install "$2@$3"
  echo "$3" >"$tools/$1.version"
}

go_tool staticcheck honnef.co/go/tools/cmd/staticcheck "$staticcheck"
go_tool actionlint github.com/rhysd/actionlint/cmd/actionlint "$actionlint"
go_tool gosec github.com/securego/gosec/v2/cmd/gosec "$gosec"
if [[ ${1:-} == lint ]]; then
  exit
fi

# debian COMMAND-OR-FILE PACKAGE: notes the package if the command or file is missing.
missing=()
debian() {
  command -v "$1" >/dev/null || [[ -e $1 ]] || missing+=("$2")
}

debian node nodejs
debian npm npm
debian promtool prometheus
debian amtool prometheus-alertmanager
debian systemd-analyze systemd
debian xmllint libxml2-utils
debian buildah buildah
debian debootstrap debootstrap
debian strace strace
debian pngquant pngquant
debian chromium chromium
[[ ${1:-} != beacon ]] || debian g++ g++
debian /etc/ssl/certs/ca-certificates.crt ca-certificates
if ((${#missing[@]})); then
  echo "setup: installing ${missing[*]}"
  sudo=()
  ((EUID == 0)) || sudo=(sudo)
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
fi

if ! cmp -s package-lock.json node_modules/.from-lock; then
  echo "setup: installing npm packages"
  npm ci --no-audit --no-fund --loglevel=error </dev/null
  cp package-lock.json node_modules/.from-lock
fi
# Links the programs, not npm's launchers, so that signals reach them.
for program in anvil cast; do
  ln -sf "$PWD"/node_modules/@foundry-rs/$program-linux-amd64/bin/$program "$tools/bin/$program"
done
chmod +x node_modules/@microsoft/sarif-multitool-linux/Sarif.Multitool # as its install script would
ln -sf "$PWD"/node_modules/@microsoft/sarif-multitool-linux/Sarif.Multitool "$tools/bin/sarif"

go_tool geth github.com/ethereum/go-ethereum/cmd/geth "$geth"
# A beacon node, from a separate module; it takes long to build. The tag gofuzz builds go-ethereum without libsecp256k1, which
# saves 15 s of gcc.
if [[ ${1:-} == beacon ]] && ! cmp -s devnet/go.mod "$tools/devnet.mod"; then
  echo "setup: building prysm"
  (cd devnet && CGO_ENABLED=1 GOBIN=$tools/bin GOFLAGS= go install -tags gofuzz -ldflags '-s -w' tool)
  cp devnet/go.mod "$tools/devnet.mod"
fi
echo "setup: anvil $(node -p 'require("@foundry-rs/anvil-linux-amd64/package.json").version'), geth $geth, staticcheck $staticcheck, node $(node --version)"
