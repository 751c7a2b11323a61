package witness

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// Rotate draws the next key of the witness in dir, which must not be running,
// and answers the entry that says so, signed by the key before it. That one
// stays beside the new one. Errors are statefile.ErrLocked, fs.ErrNotExist
// where there is no witness, attest.ErrMalformed and the files'.
func Rotate(dir string, random io.Reader) (next checkpoint.Key, entry []byte, err error) {
	path := filepath.Join(dir, keyFile)
	text, err := readCapped(path, maxKey)
	if err != nil {
		return next, nil, err
	}
	unlock, err := statefile.TryLock(filepath.Join(dir, lockFile))
	if err != nil {
		return next, nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	old, err := checkpoint.ParseSigner(checkpoint.KindWitness, string(text), time.Now)
	if err != nil {
		return next, nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if err := statefile.Write(path+".old", 0o600, text); err != nil {
		return next, nil, err
	}
	drawn, err := drawKey(path, old.Name(), random, time.Now)
	if err != nil {
		return next, nil, err
	}
	e, err := logentry.Sign(logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{
		Use: logentry.UseWitness, Old: []byte(old.String()), New: []byte(drawn.String()),
	}}, []byte(old.String()), old.SignStatement)
	if err != nil {
		return next, nil, err
	}
	entry, err = e.Encode()
	return drawn.Key, entry, err
}
