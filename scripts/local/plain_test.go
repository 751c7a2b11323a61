package main

import (
	"errors"
	"testing"
)

func TestCrashOfTheKernelIsTold(t *testing.T) {
	const (
		oops    = "[    1.524116] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\r\n"
		panics  = "[    1.524116] Kernel panic - not syncing: Attempted to kill the idle task!\r\n"
		message = `{"level":"info","msg":"start","release":"0"}` + "\r\n"
	)
	for name, c := range map[string]struct {
		console string
		want    bool
	}{
		"nothing yet":               {"BdsDxe: loading\r\n", false},
		"a fault":                   {"BdsDxe: loading\r\n" + oops, true},
		"a panic":                   {panics, true},
		"both":                      {oops + panics, true},
		"the agent has begun":       {message, false},
		"a fault under the agent":   {message + oops + panics, false},
		"a panic under the agent":   {message + panics, false},
		"under the least program":   {"START\r\n" + panics, false},
		"a crash, then another try": {`{"msg":"restart"}` + "\r\n" + oops + panics + message, true},
	} {
		if err := crashed([]byte(c.console)); errors.Is(err, errCrashed) != c.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestBootIsTriedAgainAfterCrashesAlone(t *testing.T) {
	other := errors.New("other")
	for name, c := range map[string]struct {
		tries []error
		want  error
	}{
		"at once":       {[]error{nil}, nil},
		"after a crash": {[]error{errCrashed, nil}, nil},
		"never":         {[]error{errCrashed, errCrashed, errCrashed}, errCrashed},
		"not a crash":   {[]error{other}, other},
		"another then":  {[]error{errCrashed, other}, other},
	} {
		n := 0
		err := untilBooted("trying", func() error {
			n++
			return c.tries[n-1]
		})
		if !errors.Is(err, c.want) || n != len(c.tries) {
			t.Errorf("%s: %v after %d tries, want %v after %d", name, err, n, c.want, len(c.tries))
		}
	}
}
