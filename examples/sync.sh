#!/usr/bin/env bash
# Runs the tap into a target once: continues from the last state, and keeps the new one.
#
#   sync.sh [FOLDER]      the folder of config.json and catalog.json; default: the script's own
#
# It writes states.jsonl (what the target printed), state.json (the last line of it) and sync.lock.
# Exit codes: those of the tap; 1 too if the target failed, tap or target is not there, or another run
# has held the lock for longer than LOCK_MAX_AGE_HOURS. Needs bash 4.4, flock and setsid (util-linux).
TAP=${TAP:-tap-fullstory}
TARGET=${TARGET:-target-jsonl}       # with its options, such as "target-postgres --config t.json"
LOCK_MAX_AGE_HOURS=${LOCK_MAX_AGE_HOURS:-24}

say() { echo "$(date -u +%FT%TZ) sync.sh: $*" >&2; }

cd "${1:-$(dirname "$0")}" || exit 1
for program in "${TAP%% *}" "${TARGET%% *}"; do
    command -v "$program" > /dev/null && continue
    say "$program is not installed, or not on PATH, which cron and systemd set themselves."
    exit 1
done

# One run at a time. Tap and target inherit the lock, so it is held until the last of them has ended.
exec 9>> sync.lock || exit 1
if ! flock --nonblock 9; then
    say "Another run has held sync.lock since $(cat sync.lock). Nothing to do."
    seconds=$(($(date +%s) - $(stat -c %Y sync.lock)))
    if ((seconds <= LOCK_MAX_AGE_HOURS * 3600)); then exit 0; fi
    say "That is longer than $LOCK_MAX_AGE_HOURS hours. Look at what that run is doing, and end it."
    exit 1
fi
echo "$(date -u +%FT%TZ), process $$" > sync.lock

# A power loss or a full disk can cut the last line.
if [ -s states.jsonl ] && [ -n "$(tail -c 1 states.jsonl)" ]; then
    say "The last line of states.jsonl is incomplete. Removing it."
    sed -i '$d' states.jsonl
fi

arguments=(--config config.json)
if [ -e catalog.json ]; then arguments+=(--catalog catalog.json); fi
if [ -s states.jsonl ]; then
    tail -n 1 states.jsonl > state.json.new && mv state.json.new state.json || exit 1
    arguments+=(--state state.json)
elif [ -e states.jsonl ]; then
    say "An earlier run ended before the target confirmed anything (states.jsonl is empty), and it" \
        "may have stored rows. Delete these, then states.jsonl, to start from start_date."
    exit 1
elif [ -s state.json ]; then
    arguments+=(--state state.json)  # from another place, such as a backfill
else
    say "There is no state yet. Starting from start_date."
fi

# At a signal the tap ends at a checkpoint, and the target must live on to store what has come. Some
# targets end at a signal even if they are started to ignore it. So tap and target have sessions of
# their own, where no signal to the script's process group arrives, and the script tells the tap.
# shellcheck disable=SC2086 # TAP and TARGET may come with options
exec 3> >(exec setsid $TARGET >> states.jsonl)
target=$!
# shellcheck disable=SC2086
setsid $TAP "${arguments[@]}" >&3 3>&- &
tap=$!
exec 3>&-
signals=0
for name in INT TERM HUP; do trap "((++signals)); kill -s $name $tap" $name; done

# A trapped signal ends the wait, not the tap.
ended() { wait "$1"; code=$?; ! kill -0 "$1" 2> /dev/null; }
until ended $tap; do :; done
tap_code=$code
kill -0 $target 2> /dev/null && target_saw_the_end=yes
until ended $target; do :; done
target_code=$code
stopped=$((signals == 1 && (tap_code == 129 || tap_code == 130 || tap_code == 143)))

if [ -s states.jsonl ]; then
    tail -n 1 states.jsonl > state.json.new && mv state.json.new state.json || exit 1
elif [ "$target_saw_the_end" ] && ((target_code == 0 && (tap_code == 1 || tap_code == 2 || stopped))); then
    # A tap that fails, or is stopped by one signal, writes a state after its last record; the target
    # read everything, and printed none. So there were no records.
    say "The tap ended before its first record, so nothing was stored. The next run starts from start_date."
    rm -f states.jsonl
fi
if ((target_code != 0)); then
    say "The target failed with exit code $target_code."
    if ((tap_code == 0)); then exit 1; fi
fi
exit "$tap_code"
