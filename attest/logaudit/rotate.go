package logaudit

import (
	"bytes"
	"errors"
	"slices"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
)

// rotate follows a rotation of a key that is known. One of another key is
// somebody else's, and has no place in this log.
func (a *auditor) rotate(r *logentry.Rotation, index int64) {
	a.report.Rotations++
	known, err := false, error(nil)
	switch r.Use {
	case logentry.UseLog:
		if known = a.log.String() == string(r.Old); known {
			err = a.rotateKey(&a.log, checkpoint.KindLog, r.New)
			a.logs = append(a.logs, a.log)
		}
	case logentry.UseWitness:
		// Which witnesses an operator asks is no auditor's to know.
		known = true
		if n := slices.IndexFunc(a.witnesses, func(k checkpoint.Key) bool { return k.String() == string(r.Old) }); n >= 0 {
			err = a.rotateKey(&a.witnesses[n], checkpoint.KindWitness, r.New)
		}
	case logentry.UseRelease:
		known, err = a.rotateRelease(r)
	}
	switch {
	case err != nil:
		a.find(Foreign, "index %d: %v", index, err)
	case !known:
		a.find(Foreign, "index %d: a rotation of a %s key that is not in use", index, r.Use)
	}
}

var errTaken = errors.New("a rotation to the key of the log or of a witness")

func (a *auditor) rotateKey(key *checkpoint.Key, kind checkpoint.Kind, to []byte) error {
	next, err := checkpoint.ParseKey(kind, string(to))
	if err != nil {
		return err
	}
	if taken(next, a.log, a.witnesses) {
		return errTaken
	}
	*key = next
	return nil
}

func (a *auditor) rotateRelease(r *logentry.Rotation) (bool, error) {
	for n, key := range a.keys {
		der, err := logentry.MarshalKey(key)
		if err != nil {
			return false, err
		}
		if bytes.Equal(der, r.Old) {
			a.keys[n], err = logentry.ParseReleaseKey(r.New)
			return true, err
		}
	}
	return false, nil
}

// taken reports whether the log or a witness has a key already, under whichever
// name: its holder would count twice.
func taken(key, log checkpoint.Key, witnesses []checkpoint.Key) bool {
	same := func(o checkpoint.Key) bool { return bytes.Equal(o.Public(), key.Public()) }
	return same(log) || slices.ContainsFunc(witnesses, same)
}
