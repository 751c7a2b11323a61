package eventlog

import (
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// Explain says which events made a register other than wanted. reference are
// the digests that should have been extended, in their order, where they are
// known. The text names what the log calls an event, which nothing
// authenticates; it is empty where the log does not replay to got and so
// explains nothing.
func Explain(events []Event, register uint8, got, wanted attest.Digest, reference []attest.Digest) string {
	var own []Event
	for _, e := range events {
		if e.Register == uint32(register) && e.extends() {
			own = append(own, e)
		}
	}
	if Replay(events)[register] != got {
		return ""
	}
	if reference != nil && replayDigests(reference) == wanted {
		return againstReference(own, reference)
	}
	if first, last, ok := added(own, wanted); ok {
		return "added: " + describeAll(own[first:last])
	}
	return "events: " + describeAll(own)
}

// againstReference names the first event that is not as it should be.
func againstReference(own []Event, reference []attest.Digest) string {
	for i, e := range own {
		switch {
		case i >= len(reference):
			return fmt.Sprintf("added after the release's %d: %s", len(reference), describeAll(own[i:]))
		case e.Digest != reference[i]:
			return fmt.Sprintf("event %d of %d differs: %s, want %.8s…", i+1, len(own), e, reference[i])
		}
	}
	return fmt.Sprintf("%d events, the release has %d", len(own), len(reference))
}

// added finds the run of events without which the register would be as wanted.
func added(own []Event, wanted attest.Digest) (first, last int, ok bool) {
	if len(own) > maxSearched {
		return 0, 0, false
	}
	var prefix attest.Digest
	for first = range own {
		for last = first + 1; last <= len(own); last++ {
			rest := prefix
			for _, e := range own[last:] {
				rest = attest.Extend(rest, e.Digest)
			}
			if rest == wanted {
				return first, last, true
			}
		}
		prefix = attest.Extend(prefix, own[first].Digest)
	}
	return 0, 0, false
}

// maxSearched is the most events of one register that are searched, since the
// work grows with their cube and a log is the machine's own choice. Of the registers
// that are compared a host's had 36 in the real logs of the tests, a cloud's machine 12.
const maxSearched = 64

func replayDigests(digests []attest.Digest) attest.Digest {
	var register attest.Digest
	for _, d := range digests {
		register = attest.Extend(register, d)
	}
	return register
}

// maxDescribed bounds the events that one refusal names.
const maxDescribed = 6

func describeAll(events []Event) string {
	var texts []string
	for i, e := range events {
		if i == maxDescribed {
			texts = append(texts, fmt.Sprintf("%d more", len(events)-i))
			break
		}
		texts = append(texts, e.String())
	}
	return strings.Join(texts, "; ")
}
