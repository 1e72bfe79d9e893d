# shellcheck shell=bash
# Sourced by scripts that need Python packages: installs Python where it is missing, and virtual environments from pinned lists.

# Whether python3 is new enough and can make virtual environments (Debian ships that part separately).
python_works() {
  python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

ensure_python() {
  python_works && return
  local sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  if ! command -v apt-get >/dev/null || { [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; }; then
    echo "Python 3.11 or newer with its venv module is needed, and cannot be installed from here. Please install it (on Debian: python3 python3-venv)." >&2
    return 1
  fi
  echo "Installing Python …" >&2
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qq -y --no-install-recommends python3 python3-venv >/dev/null
  python_works || { echo "Python 3.11 or newer is needed; this system offers $(python3 --version)." >&2; return 1; }
}

# ensure_venv FOLDER LIST: FOLDER holds exactly the packages of LIST. Does nothing when it already does.
ensure_venv() {
  local folder=$1 list=$2
  cmp -s "$list" "$folder/installed.txt" && return
  ensure_python
  echo "Installing $list …" >&2
  python3 -m venv --clear "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$list"
  cp "$list" "$folder/installed.txt"
}
