#!/usr/bin/env bash
# Installs the worker of Synapse @VERSION@ as ~/.local/bin/synapse-client, and starts it:
#
#   curl -fsSL @BASE_URL@/run | bash -s -- --upstream http://localhost:8000 --ws-auth-key KEY
#
# All arguments are the worker's own, except --service: with it, systemd keeps the worker running as a
# service of this user. Nothing happens before the last line has arrived.

synapse_install() {
  set +x -euo pipefail
  local base_url='@BASE_URL@' tunnel_url='@TUNNEL_URL@'
  # Each platform that the gateway has a binary for, with the SHA-256 of it.
  local offered='@OFFERED@'
  local service='' name='' authorities='' arguments=()
  local home folder target wanted='' platforms='' os arch
  temporary=''
  trap 'rm -f -- ${temporary:+"$temporary"}' EXIT

  say() { printf 'synapse: %s\n' "$*" >&2; }
  fail() {
    say "$*"
    exit 1
  }
  has() { command -v "$1" >/dev/null 2>&1; }

  # Keys go by the environment, where no list of processes shows them.
  read_arguments() {
    while [ $# -gt 0 ]; do
      case $1 in
        --service) service=yes ;;
        --ws-auth-key=*) export SYNAPSE_WS_AUTH_KEY="${1#*=}" ;;
        --upstream-api-key=* | --api-key=*) export SYNAPSE_UPSTREAM_API_KEY="${1#*=}" ;;
        --ws-auth-key | --upstream-api-key | --api-key | --name | --ca-file)
          [ $# -gt 1 ] || fail "$1 needs a value"
          case $1 in
            --ws-auth-key) export SYNAPSE_WS_AUTH_KEY="$2" ;;
            --name) name=$2 arguments+=("$1" "$2") ;;
            --ca-file) authorities=$2 arguments+=("$1" "$2") ;;
            *) export SYNAPSE_UPSTREAM_API_KEY="$2" ;;
          esac
          shift
          ;;
        --name=*) name=${1#*=} arguments+=("$1") ;;
        --ca-file=*) authorities=${1#*=} arguments+=("$1") ;;
        *) arguments+=("$1") ;;
      esac
      shift
    done
    case $name in
      *[!A-Za-z0-9._-]*) fail '--name takes letters, digits, dots, dashes and underscores' ;;
    esac
  }

  find_platform() {
    local entry
    os=$(uname -s)
    arch=$(uname -m)
    case $os in
      Linux) os=linux ;;
      Darwin) os=darwin ;;
    esac
    case $arch in
      amd64) arch=x86_64 ;;
      arm64) arch=aarch64 ;;
    esac
    for entry in $offered; do
      platforms+=" ${entry%%=*}"
      if [ "${entry%%=*}" = "$os-$arch" ]; then wanted=${entry#*=}; fi
    done
    [ -n "$wanted" ] || fail "the gateway has no binary for $os-$arch, only for:$platforms; its operator can add one (server.client_binaries)"
  }

  find_folder() {
    # Without HOME, bash asks the system for it.
    [ -n "${HOME:-}" ] || unset HOME
    home=~
    export HOME="$home"
    folder=$home/.local/bin
    target=$folder/synapse-client
    mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] ||
      fail "$folder cannot be written; set HOME to a folder that is yours"
    [ ! -d "$target" ] || fail "$target is a folder; move it out of the way"
  }

  sum_of() {
    local line
    if has sha256sum; then
      line=$(sha256sum <"$1")
    elif has shasum; then
      line=$(shasum -a 256 <"$1")
    elif has openssl; then
      line=$(openssl dgst -sha256 -r <"$1")
    else
      fail 'sha256sum, shasum or openssl is needed to check what is downloaded'
    fi
    printf '%s' "${line%% *}"
  }

  download() {
    local pause
    if has curl; then
      curl --fail --silent --show-error --location --retry 8 --retry-max-time 300 \
        ${authorities:+--cacert "$authorities"} --output "$2" "$1"
    elif has wget; then
      for pause in 2 4 8 16 0; do
        wget -q ${authorities:+--ca-certificate="$authorities"} -O "$2" "$1" && return
        sleep "$pause"
      done
      return 1
    else
      fail 'curl or wget is needed'
    fi
  }

  install_binary() {
    local sum=''
    if [ -x "$target" ]; then sum=$(sum_of "$target"); fi
    if [ "$sum" = "$wanted" ]; then return; fi
    say "downloading the worker for $os-$arch from $base_url"
    temporary=$(mktemp "$folder/.synapse-client.XXXXXX")
    download "$base_url/getclient?os=$os&arch=$arch" "$temporary" ||
      fail 'the download failed; nothing was installed'
    sum=$(sum_of "$temporary")
    [ "$sum" = "$wanted" ] ||
      fail "what came is not what the gateway has announced (SHA-256 $sum instead of $wanted); nothing was installed"
    chmod 755 "$temporary"
    "$temporary" --version >/dev/null </dev/null || fail "the gateway's binary does not run on this machine; nothing was installed"
    mv -f "$temporary" "$target"
    temporary=''
    say "installed $target (@VERSION@)"
  }

  find_systemd() {
    has systemctl || fail '--service needs systemd, which is not here'
    if [ -z "${XDG_RUNTIME_DIR:-}" ] && [ -d "/run/user/$(id -u)" ]; then
      XDG_RUNTIME_DIR=/run/user/$(id -u)
      export XDG_RUNTIME_DIR
    fi
    case "${arguments[*]-}${SYNAPSE_WS_AUTH_KEY:-}${SYNAPSE_UPSTREAM_API_KEY:-}${OPENAI_API_KEY:-}${OPENAI_BASE_URL:-}" in
      *[[:cntrl:]]*) fail 'no argument and no key of a service may hold a control character' ;;
    esac
    systemctl --user show-environment >/dev/null 2>&1 ||
      fail '--service needs a login of this user that systemd knows of: log in by ssh or at the machine, not with su or sudo'
  }

  # In double quotes, as systemd reads them; with a second argument, as a word of a command.
  quoted() {
    local text=$1 result='' character
    while [ -n "$text" ]; do
      character=${text:0:1} text=${text:1}
      case $character in
        '"' | \\) result+="\\$character" ;;
        '%' | '$') result+=$character${2:+$character} ;;
        *) result+=$character ;;
      esac
    done
    printf '"%s"' "$result"
  }

  # Takes the place of a file as a whole; nobody else may read it.
  write() {
    mkdir -p "${1%/*}"
    temporary=$(mktemp "${1%/*}/.synapse.XXXXXX")
    chmod 600 "$temporary"
    cat >"$temporary"
    mv -f "$temporary" "$1"
    temporary=''
  }

  environment() {
    local variable
    for variable in SYNAPSE_WS_AUTH_KEY SYNAPSE_UPSTREAM_API_KEY OPENAI_API_KEY OPENAI_BASE_URL; do
      if [ -n "${!variable:-}" ]; then printf '%s=%s\n' "$variable" "$(quoted "${!variable}")"; fi
    done
  }

  unit() {
    local word command
    command=$(quoted "$target" yes)
    for word in --server-url "$tunnel_url" ${arguments[@]+"${arguments[@]}"}; do
      command+=" $(quoted "$word" yes)"
    done
    printf '%s\n' '[Unit]' 'Description=Synapse worker' 'StartLimitIntervalSec=0' '' \
      '[Service]' "ExecStart=$command" "EnvironmentFile=${1//%/%%}" \
      'Restart=always' 'RestartSec=2' 'TimeoutStopSec=40' 'NoNewPrivileges=yes' '' \
      '[Install]' 'WantedBy=default.target'
  }

  install_service() {
    local unit=synapse-worker${name:+-$name} config=${XDG_CONFIG_HOME:-$home/.config} keys
    keys=$config/synapse/$unit.env
    environment | write "$keys"
    unit "$keys" | write "$config/systemd/user/$unit.service"
    systemctl --user daemon-reload
    systemctl --user --quiet enable "$unit"
    systemctl --user restart "$unit"
    say "the worker runs as the service $unit"
    say "its logs:  journalctl --user -u $unit -f"
    say "its end:   systemctl --user disable --now $unit"
    say 'for it to run while nobody is logged in:  loginctl enable-linger'
  }

  read_arguments "$@"
  find_platform
  find_folder
  if [ -z "$service" ]; then
    install_binary
    exec "$target" --server-url "$tunnel_url" ${arguments[@]+"${arguments[@]}"} </dev/null
  fi
  find_systemd
  install_binary
  install_service
}

{ synapse_install "$@"; exit; }
