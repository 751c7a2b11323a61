package witness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// Rotate draws the next key of the witness in dir, which must not be running,
// and hands the entry that says so, signed by the key before it, to publish
// before it takes that key's place: an entry that was lost would leave every
// client with a key that nobody can sign for again. Until then the next key
// waits in a file of its own, so that whatever comes in between is made good by
// the next call, with the same entry. The key before stays beside the new one.
// Errors are statefile.ErrLocked, fs.ErrNotExist where there is no witness,
// attest.ErrMalformed, publish's and the files'.
func Rotate(dir string, random io.Reader, publish func(entry []byte) error) (_ checkpoint.Key, err error) {
	path := filepath.Join(dir, keyFile)
	text, err := readCapped(path, maxKey)
	if err != nil {
		return checkpoint.Key{}, err
	}
	unlock, err := statefile.TryLock(filepath.Join(dir, lockFile))
	if err != nil {
		return checkpoint.Key{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	old, err := checkpoint.ParseSigner(checkpoint.KindWitness, string(text), time.Now)
	if err != nil {
		return checkpoint.Key{}, fmt.Errorf("reading %s: %w", path, err)
	}
	next, err := nextKey(dir, old, random)
	if err != nil {
		return checkpoint.Key{}, err
	}
	entry, err := rotation(old, next.Key)
	if err != nil {
		return checkpoint.Key{}, err
	}
	if err := publish(entry); err != nil {
		return checkpoint.Key{}, err
	}
	if err := statefile.Write(path+".old", 0o600, text); err != nil {
		return checkpoint.Key{}, err
	}
	if err := os.Rename(path+nextSuffix, path); err != nil {
		return checkpoint.Key{}, fmt.Errorf("taking the next key into use: %w", err)
	}
	return next.Key, statefile.SyncDir(dir)
}

// nextSuffix names the file of a key that is not yet in use.
const nextSuffix = ".next"

// nextKey is the key that an earlier call drew and did not take into use, or a
// new one.
func nextKey(dir string, old *checkpoint.Signer, random io.Reader) (*checkpoint.Signer, error) {
	path := filepath.Join(dir, keyFile+nextSuffix)
	return loadKey(path, old.Name(), random, time.Now)
}

func rotation(old *checkpoint.Signer, next checkpoint.Key) ([]byte, error) {
	e, err := logentry.Sign(logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{
		Use: logentry.UseWitness, Old: []byte(old.String()), New: []byte(next.String()),
	}}, []byte(old.String()), old.SignStatement)
	if err != nil {
		return nil, err
	}
	return e.Encode()
}
