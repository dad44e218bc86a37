# What the scripts share. Sourced; sets $root and goes there. Messages go to stderr: stdout belongs to the program.
# shellcheck shell=bash
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root" || exit
# Debian keeps mosquitto where an ordinary user's PATH does not look.
case ":$PATH:" in *:/usr/sbin:*) ;; *) PATH="$PATH:/usr/sbin" ;; esac
export PATH

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# The first Python 3.11 or newer that can make a virtual environment; SAT_PYTHON names another one.
find_python() {
    local candidate version bare="" older=""
    for candidate in ${SAT_PYTHON:-python3.13 python3.12 python3.11 python3}; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            older="$candidate is Python $version"
        elif "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        else
            bare=$version
        fi
    done
    if [ -n "$bare" ]; then
        die "setup: Python $bare is here without its venv module. Install it: apt-get install python$bare-venv" \
            "(or name another Python: SAT_PYTHON=/path/to/python3 $0)."
    fi
    die "setup: Python 3.11 or newer is needed${older:+; $older}." \
        "Install one (Debian: apt-get install python3 python3-venv) or name it: SAT_PYTHON=/path/to/python3 $0."
}

# What the environment was made from: it is up to date while this stays the same.
fingerprint() {
    {
        printf '%s\n' "$root"
        .venv/bin/python -c 'import sys; print(sys.version)' 2>/dev/null || printf 'none\n'
        cat requirements.lock pyproject.toml
    } | sha256sum
}

pip_install() { .venv/bin/python -m pip install -qq --no-input --disable-pip-version-check "$@" >&2; }

up_to_date() { [ ! -e .venv/.unfinished ] && [ "$(tail -n 1 .venv/.made-from 2>/dev/null)" = "$(fingerprint)" ]; }

# A half install, a tree that was moved (scripts in bin name its path), a Python that is gone or too old, or an install
# under the name that the project had before.
beyond_repair() {
    [ -e .venv/.unfinished ] && return
    compgen -G '.venv/lib/python3*/site-packages/sat_toolkit-*.dist-info' >/dev/null && return
    [ -e .venv/.made-from ] && [ "$(head -n 1 .venv/.made-from)" != "$root" ] && return
    ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Make .venv hold what requirements.lock pins, and the project itself. Quick when nothing changed.
setup() {
    up_to_date && return
    [ -w . ] || die "setup: $root is not writable for $(id -un); clone the project as that user."
    mkdir -p .cache
    exec 9>.cache/setup.lock
    flock -n 9 || { say "setup: another one is at work here, waiting for it"; flock 9; }
    up_to_date || install_all
    exec 9>&-
}

install_all() {
    local python started=$SECONDS
    if beyond_repair; then
        rm -rf .venv
        python=$(find_python)
        say "setup: making .venv with $("$python" --version)"
        mkdir .venv
        touch .venv/.unfinished
        "$python" -m venv .venv >&2
    fi
    touch .venv/.unfinished
    say "setup: installing $(grep -c '==' requirements.lock) pinned packages (about a minute the first time)"
    pip_install --require-hashes -r requirements.lock ||
        die "setup: pip failed, see above. Is a package index reachable? The next run starts afresh."
    pip_install --no-build-isolation --no-deps -e . || die "setup: the project itself did not install, see above."
    printf '%s\n%s\n' "$root" "$(fingerprint)" >.venv/.made-from
    rm .venv/.unfinished
    say "setup: ready after $((SECONDS - started)) s"
}
