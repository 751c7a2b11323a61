package main

import (
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/agent/update"
)

// A machine that cannot go on with a release on trial starts the one before it. Any
// other that cannot is powered off, and so is one whose button is pressed.
func TestHowAMachineEnds(t *testing.T) {
	noCard := errors.New("no card")
	for name, c := range map[string]struct {
		err    error
		trying bool
		again  bool
	}{
		"the power button":           {},
		"the power button, on trial": {trying: true},
		"what is missing":            {err: noCard},
		"what is missing, on trial":  {err: noCard, trying: true, again: true},
		"another release":            {err: update.ErrRestart, again: true},
		"a trial that is given back": {err: update.ErrRestart, trying: true, again: true},
	} {
		err := ending(c.err, c.trying)
		if !errors.Is(err, c.err) || errors.Is(err, update.ErrRestart) != c.again {
			t.Errorf("%s ends in %v", name, err)
		}
	}
}
