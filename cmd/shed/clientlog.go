package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// The files in the client's directory that name the log and its witnesses where
// no flag does.
const (
	logKeyFile    = "log.vkey"
	witnessesFile = "witnesses"
)

// cosignatureAge is how old a cosignature may be where no flag says so.
const cosignatureAge = 24 * time.Hour

// logFlags say which transparency log has to vouch for releases.
type logFlags struct {
	key       string
	witnesses []string
	quorum    int
	age       time.Duration
}

const logHelp = `
Where a transparency log is named, by --log-key, SHED_LOG_KEY or the file
log.vkey in the client's directory, a release counts only with a proof that it
stands there, under a checkpoint that as many of the witnesses as --witnesses
says have cosigned within --cosignature-age. --witness, SHED_WITNESS or the file
witnesses name files with a verifier key on each line and, behind it, what that
witness is worth in a word, such as dev. Where no log is named the result says
transparency: none.`

func (f *logFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.key, "log-key", "", "file with the verifier key of the transparency log")
	flags.StringArrayVar(&f.witnesses, "witness", nil, "file with verifier keys of witnesses, KEY [LABEL] a line; repeatable")
	flags.IntVar(&f.quorum, "witnesses", 0, "how many of the witnesses must have cosigned (default all)")
	flags.DurationVar(&f.age, "cosignature-age", cosignatureAge, "how old a cosignature may be")
}

// named says whether a log is named, and completes the flags from the
// environment and the client's directory.
func (f *logFlags) named(dir string) (bool, error) {
	f.key = first(f.key, os.Getenv("SHED_LOG_KEY"), existing(filepath.Join(dir, logKeyFile)))
	if len(f.witnesses) == 0 {
		if file := first(os.Getenv("SHED_WITNESS"), existing(filepath.Join(dir, witnessesFile))); file != "" {
			f.witnesses = []string{file}
		}
	}
	switch {
	case f.key == "" && (len(f.witnesses) > 0 || f.quorum != 0):
		return false, cli.Hinted(cli.Usage(errors.New("witnesses are named and no log")), "name the log's key with --log-key")
	case f.key != "" && len(f.witnesses) == 0:
		return false, cli.Hinted(cli.Usage(errors.New("a log is named and no witness")), "name witnesses with --witness: a log alone can show everybody another history")
	}
	return f.key != "", nil
}

func existing(path string) string {
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// policy is what the flags, the environment and the client's directory say.
func (f *logFlags) policy(dir string) (release.LogPolicy, error) {
	named, err := f.named(dir)
	if err != nil || !named {
		return release.LogPolicy{NotRequired: true}, err
	}
	p := release.LogPolicy{MaxAge: f.age, Quorum: f.quorum}
	if p.Log, err = readLogKey(f.key); err != nil {
		return p, err
	}
	if p.Witnesses, err = f.readWitnesses(); err != nil {
		return p, err
	}
	if p.Quorum == 0 {
		p.Quorum = len(p.Witnesses)
	}
	return p, nil
}

func (f *logFlags) readWitnesses() (all []release.Witness, err error) {
	for _, name := range f.witnesses {
		read, err := readWitnessFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, read...)
	}
	return all, nil
}

// maxKeysFile caps a file of verifier keys.
const maxKeysFile = 64 << 10

func readKeysFile(name string) ([]byte, error) {
	text, err := readCapped(name, maxKeysFile)
	if err != nil {
		return nil, fmt.Errorf("reading verifier keys: %w", err)
	}
	return text, nil
}

func readLogKey(name string) (checkpoint.Key, error) {
	text, err := readKeysFile(name)
	if err != nil {
		return checkpoint.Key{}, err
	}
	key, err := checkpoint.ParseKey(checkpoint.KindLog, strings.TrimSpace(string(text)))
	if err != nil {
		return key, cli.Usage(fmt.Errorf("reading %s: %w", name, err))
	}
	return key, nil
}

// readWitnessFile reads KEY [LABEL] on each line; # begins a comment.
func readWitnessFile(name string) (all []release.Witness, err error) {
	text, err := readKeysFile(name)
	if err != nil {
		return nil, err
	}
	if all, err = policy.ParseWitnesses(text); err != nil {
		return nil, cli.Usage(fmt.Errorf("reading %s: %w", name, err))
	}
	return all, nil
}

// writtenAt is when this was written: no clock is right that says it is before.
var writtenAt = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// buildTime is the time of the commit that the program was built from, where
// that was noted.
func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return writtenAt
	}
	for _, s := range info.Settings {
		if s.Key != "vcs.time" {
			continue
		}
		if at, err := time.Parse(time.RFC3339, s.Value); err == nil && at.After(writtenAt) {
			return at
		}
	}
	return writtenAt
}
