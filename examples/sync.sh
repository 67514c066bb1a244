#!/usr/bin/env bash
# Runs the tap into a target once: continues from the last state, and keeps the new one.
#
#   sync.sh [FOLDER]      the folder of config.json and catalog.json; default: the script's own
#
# It writes states.jsonl (what the target printed), state.json (the last line of it) and sync.lock. With
# STATE=postgres these are postgres-states.jsonl and so on: each target needs a state of its own.
# Exit codes: those of the tap; 1 too if the target failed, tap or target is not there, or another run
# has held the lock for longer than LOCK_MAX_AGE_HOURS. Needs bash 4.4, and flock (util-linux) or, on
# macOS, which lacks it, perl.
TAP=${TAP:-tap-fullstory}
TARGET=${TARGET:-target-jsonl}       # with its options, such as "target-postgres --config t.json"
LOCK_MAX_AGE_HOURS=${LOCK_MAX_AGE_HOURS:-24}
states=${STATE:+$STATE-}states.jsonl state=${STATE:+$STATE-}state.json lock=${STATE:+$STATE-}sync.lock

umask 077  # states and locks are nobody else's business; a target's files follow it, too

say() { echo "$(date -u +%FT%TZ) sync.sh: $*" >&2; }

cd "${1:-$(dirname "$0")}" || exit 1
for program in "${TAP%% *}" "${TARGET%% *}"; do
    command -v "$program" > /dev/null && continue
    say "$program is not installed, or not on PATH, which cron and systemd set themselves."
    exit 1
done

if command -v flock > /dev/null; then
    lock() { flock --nonblock 9; }
elif command -v perl > /dev/null; then
    # shellcheck disable=SC2016 # $lock is perl's
    lock() { perl -e 'use Fcntl ":flock"; open(my $lock, ">>&=", 9) or exit 1; flock($lock, LOCK_EX | LOCK_NB) or exit 1'; }
else
    say "flock is not installed, and perl, which can do the same, neither. Install util-linux."
    exit 1
fi

# One run at a time. Tap and target inherit the lock, so it is held until the last of them has ended.
exec 9>> "$lock" || exit 1
if ! lock; then
    say "Another run has held $lock since $(cat $lock). Nothing to do."
    if [ -z "$(find "$lock" -mmin +$((LOCK_MAX_AGE_HOURS * 60)))" ]; then exit 0; fi
    say "That is longer than $LOCK_MAX_AGE_HOURS hours. Look at what that run is doing, and end it."
    exit 1
fi
echo "$(date -u +%FT%TZ), process $$" > "$lock"

# A full disk can cut the last line, and a power loss can leave zeros in its place.
if [ -s "$states" ] && [ "$(tail -n 1 "$states" | tail -c 2 | tr -d '\0' | tr '\n' .)" != '}.' ]; then
    say "The last line of $states is incomplete. Removing it."
    tr -d '\0' < "$states" | grep '^{.*}$' > "$states.new"
    # A disk that is still full, or a kill, must not take the other lines as well.
    case ${PIPESTATUS[*]} in
        "0 0" | "0 1") mv "$states.new" "$states" || exit 1 ;;
        *)
            say "$states.new could not be written."
            exit 1
            ;;
    esac
fi

arguments=(--config config.json)
if [ -e catalog.json ]; then arguments+=(--catalog catalog.json); fi
if [ -s "$states" ]; then
    tail -n 1 "$states" > "$state.new" && mv "$state.new" "$state" || exit 1
    arguments+=(--state "$state")
elif [ -e "$states" ]; then
    if [ -s "$state" ]; then from=$state; else from=start_date; fi
    say "An earlier run ended before the target confirmed anything ($states is empty), and it" \
        "may have stored rows. Delete these, unless the target upserts, then $states, to start" \
        "from $from."
    exit 1
elif [ -s "$state" ]; then
    arguments+=(--state "$state")  # from another place, such as a backfill
else
    if [ -e "$state" ]; then
        say "$state is empty. Put the last state into it, or delete the rows that are stored," \
            "then $state, to start from start_date."
        exit 1
    fi
    say "There is no state yet. Starting from start_date."
fi

# At a signal the tap ends at a checkpoint, and the target must live on to store what has come. Some
# targets end at a signal even if they are started to ignore it. So tap and target have process groups
# of their own (set -m), where no signal to the script's group arrives, and the script tells the tap.
#
# A signal within a second of the first is the same one: `timeout` signals the script, then its group. A
# later one ends the target as well, which may have stopped reading.
signals=0 signalled_at=0 tap='' target='' early=''
stop() {
    local now=${EPOCHREALTIME:-$(date +%s).000000}
    now=${now/[.,]/}
    if ((signals > 1 || (signals && now - signalled_at < 1000000))); then return; fi
    ((++signals))
    signalled_at=$now
    if [ -z "$tap" ]; then
        early=$1
    elif ((signals == 1)); then
        kill -s "$1" "$tap" 2> /dev/null
    else
        kill -s "$1" -- "-$tap" "-$target" 2> /dev/null
        sleep 1
        kill -s KILL -- "-$tap" "-$target" 2> /dev/null
    fi
}
for name in INT TERM HUP; do
    # shellcheck disable=SC2064 # the name of now
    trap "stop $name" $name
done

# A pipe with no name that both ends are opened of.
rm -f sync.pipe && mkfifo sync.pipe || exit 1
exec 3<> sync.pipe 4< sync.pipe 5> sync.pipe 3>&-
rm sync.pipe
set -m
# The keys are for the tap alone.
# shellcheck disable=SC2086 # TAP and TARGET may come with options
env -u TAP_FULLSTORY_API_KEY -u TAP_FULLSTORY_HASH_KEY $TARGET <&4 >> "$states" 4<&- 5>&- &
target=$!
# shellcheck disable=SC2086
$TAP "${arguments[@]}" >&5 4<&- 5>&- &
tap=$!
exec 4<&-
if [ "$early" ]; then kill -s "$early" "$tap"; fi

# A trapped signal ends the wait, not the tap, and its number is then what the wait returns. If it comes at
# the moment when the tap ends, bash 5.2 can miss that end, and waits for any child, so for the target,
# which waits for the end of the pipe. So the pipe is closed as soon as the tap is gone.
ended() {
    local again
    wait "$1"
    code=$?
    if kill -0 "$1" 2> /dev/null; then return 1; fi
    if [ "$1" = "$tap" ]; then
        # The script still holds the pipe open, so a target that has read everything cannot have ended yet.
        kill -0 $target 2> /dev/null && target_saw_the_end=yes
        exec 5>&-
    fi
    wait "$1" 2> /dev/null
    again=$?
    if ((again != 127)); then code=$again; fi
}
until ended $tap; do :; done
tap_code=$code
until ended $target; do :; done
target_code=$code
stopped=$((signals == 1 && (tap_code == 129 || tap_code == 130 || tap_code == 143)))

if [ -s "$states" ]; then
    tail -n 1 "$states" > "$state.new" && mv "$state.new" "$state" || exit 1
elif [ "$target_saw_the_end" ] && ((target_code == 0 && (tap_code == 1 || tap_code == 2 || stopped))); then
    # A tap that fails, or is stopped by one signal, writes a state after its last record; the target
    # read everything, and printed none. So there were no records.
    say "The tap ended before its first record, so nothing was stored. The next run starts from start_date."
    rm -f "$states"
fi
if ((target_code != 0)); then
    say "The target failed with exit code $target_code."
    if ((tap_code == 0)); then exit 1; fi
fi
exit "$tap_code"
