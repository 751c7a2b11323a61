package translog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// KeyFile holds the log's keys, the newest first, a line each.
const KeyFile = "log.key"

// LoadKeys reads the log's keys. fs.ErrNotExist where there are none; errors
// are also the file's and attest.ErrMalformed.
func LoadKeys(dir, origin string) ([]*checkpoint.Signer, error) {
	path := filepath.Join(dir, KeyFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the log's key: %w", err)
	}
	keys, err := checkpoint.ParseSigners(checkpoint.KindLog, string(text))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if keys[0].Name() != origin {
		return nil, fmt.Errorf("%w: %s is the key of log %s, not of %s", attest.ErrMalformed, path, keys[0].Name(), origin)
	}
	return keys, nil
}

// DrawKey draws the first key of a log and writes it. A file that is there is
// never touched: fs.ErrExist.
func DrawKey(dir, origin string, random io.Reader) error {
	path := filepath.Join(dir, KeyFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drawing the log's key: %s: %w", path, fs.ErrExist)
	}
	key, err := drawKey(origin, random)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the log's directory: %w", err)
	}
	return statefile.Write(path, 0o600, []byte(key.Encode()))
}

func drawKey(origin string, random io.Reader) (*checkpoint.Signer, error) {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, fmt.Errorf("drawing the log's key: %w", err)
	}
	return checkpoint.NewSigner(checkpoint.KindLog, origin, private, nil)
}

// RotateKey draws the log's next key and puts into the log that it takes the
// place of the one in use, which signs that. From then on both sign, so that
// witnesses and clients that know either go on. Errors are those of Add and the
// file's.
func (l *Log) RotateKey(ctx context.Context, random io.Reader) (checkpoint.Key, error) {
	l.rotating.Lock()
	defer l.rotating.Unlock()
	before := l.signersNow()
	if len(before) == checkpoint.MaxSigners {
		return checkpoint.Key{}, refused("%d keys sign already; take the oldest out of %s", checkpoint.MaxSigners, KeyFile)
	}
	next, err := drawKey(before[0].Name(), random)
	if err != nil {
		return checkpoint.Key{}, err
	}
	keys := append([]*checkpoint.Signer{next}, before...)
	if err := l.keep(keys); err != nil {
		return checkpoint.Key{}, err
	}
	l.mu.Lock()
	l.Keys = keys
	l.mu.Unlock()
	l.awake()
	return next.Key, l.announce(ctx)
}

// announce puts every rotation of the log's keys into the log that does not
// stand there: a stop may have come between drawing a key and saying so. The
// same rotation has the same bytes.
func (l *Log) announce(ctx context.Context) error {
	keys := l.signersNow()
	for n := len(keys) - 1; n > 0; n-- {
		from, to := keys[n], keys[n-1]
		e, err := logentry.Sign(logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{
			Use: logentry.UseLog, Old: []byte(from.String()), New: []byte(to.String()),
		}}, []byte(from.String()), from.SignStatement)
		if err != nil {
			return err
		}
		record, err := e.Encode()
		if err != nil {
			return err
		}
		if _, err := l.Add(ctx, record); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) keep(keys []*checkpoint.Signer) error {
	var b bytes.Buffer
	for _, key := range keys {
		b.WriteString(key.Encode())
	}
	return statefile.Write(filepath.Join(l.Dir, KeyFile), 0o600, b.Bytes())
}

// signers signs the driver's checkpoints with the newest key. What is shown is
// signed by all.
type signers struct{ log *Log }

var _ note.Signer = (*signers)(nil)

func (s *signers) Name() string                     { return s.log.Key().Name() }
func (s *signers) KeyHash() uint32                  { return s.log.Key().KeyHash() }
func (s *signers) Sign(text []byte) ([]byte, error) { return s.log.signersNow()[0].Sign(text) }

// once makes the driver's own words ours: it has one place for the process.
var once sync.Once

func quiet(logger *zap.Logger) {
	once.Do(func() {
		klog.LogToStderr(false)
		klog.SetOutput(words{logger.Named("tessera")})
	})
}

type words struct{ log *zap.Logger }

func (w words) Write(b []byte) (int, error) {
	w.log.Debug(string(bytes.TrimSpace(b)))
	return len(b), nil
}
