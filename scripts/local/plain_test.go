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
