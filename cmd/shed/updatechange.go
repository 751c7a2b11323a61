package main

import (
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

// shownChange is what a release changes of Secure Boot's variables. Now says that this
// alone is what an approval is for.
type shownChange struct {
	Variable string          `json:"variable"`
	Adds     []attest.Digest `json:"adds,omitempty"`
	Removes  []attest.Digest `json:"removes,omitempty"`
	Now      bool            `json:"now"`
}

func showChange(c *release.SecureBootChange, now bool) *shownChange {
	if c == nil {
		return nil
	}
	return &shownChange{Variable: c.Variable, Adds: c.Adds, Removes: c.Removes, Now: now}
}

func (s *shownChange) String() string {
	change := s.Variable + " " + strings.Join(append(named("gets", s.Adds), named("loses", s.Removes)...), ", ")
	if s.Now {
		return change + "; from this there is no way back"
	}
	return change + ", which the machine asks you for by itself once it runs the release"
}

func named(verb string, digests []attest.Digest) (all []string) {
	for n, d := range digests {
		if n == shownChanges {
			return append(all, fmt.Sprintf("and %d more", len(digests)-n))
		}
		all = append(all, fmt.Sprintf("%s %.16s…", verb, d))
	}
	return all
}
