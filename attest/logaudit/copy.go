package logaudit

import (
	"fmt"
	"slices"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
)

// Copy is a signed checkpoint of the log that somebody else was shown.
type Copy struct {
	// Name is what errors call it.
	Name   string
	Signed []byte
}

// readCopies takes what the copies say for seen, whoever signed them: which
// keys could have shows in the log alone.
func (a *auditor) readCopies() error {
	var seen []Head
	for _, c := range a.policy.Copies {
		parsed, err := checkpoint.Parse(c.Signed)
		if err != nil {
			return fmt.Errorf("reading %s: %w", c.Name, err)
		}
		seen = append(seen, headOf(parsed))
	}
	a.policy.Seen = append(seen, a.policy.Seen...)
	return nil
}

// ownCopies refuses a copy that none of the log's keys has signed.
func (a *auditor) ownCopies() error {
	for _, c := range a.policy.Copies {
		var last error
		if !slices.ContainsFunc(a.logs, func(key checkpoint.Key) bool {
			_, last = checkpoint.Open(c.Signed, key, nil)
			return last == nil
		}) {
			return fmt.Errorf("reading %s: %w", c.Name, last)
		}
	}
	return nil
}
