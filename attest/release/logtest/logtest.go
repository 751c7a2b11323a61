// Package logtest is a transparency log with witnesses, in memory, for tests.
//
// Invariant: synthetic throughout: its keys are drawn by each test, stand for
// no log that there is, and are nobody's default.
package logtest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logproof"
	"github.com/toolshed-cloud/shed/attest/release"
)

// Origin is the log's.
const Origin = "log.test.example"

// Log is an append-only log.
type Log struct {
	Signer    *checkpoint.Signer
	Witnesses []*checkpoint.Signer
	// Time is what the witnesses' clocks say.
	Time time.Time

	tb      testing.TB
	records [][]byte
	hashes  []tlog.Hash
}

// New draws a log's key and those of so many witnesses.
func New(tb testing.TB, witnesses int) *Log {
	tb.Helper()
	l := &Log{tb: tb, Time: time.Now()}
	l.Signer = l.NewSigner(checkpoint.KindLog, Origin)
	for n := range witnesses {
		l.Witnesses = append(l.Witnesses, l.NewSigner(checkpoint.KindWitness, "witness-"+string(rune('a'+n))))
	}
	return l
}

// NewSigner draws a key.
func (l *Log) NewSigner(kind checkpoint.Kind, name string) *checkpoint.Signer {
	l.tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		l.tb.Fatal(err)
	}
	s, err := checkpoint.NewSigner(kind, name, private, func() time.Time { return l.Time })
	if err != nil {
		l.tb.Fatal(err)
	}
	return s
}

// Policy accepts the log with all of its witnesses and cosignatures of an hour.
func (l *Log) Policy() release.LogPolicy {
	p := release.LogPolicy{
		Log: l.Signer.Key, Quorum: len(l.Witnesses), MaxAge: time.Hour, TimeFloor: time.Unix(1, 0),
	}
	for _, w := range l.Witnesses {
		p.Witnesses = append(p.Witnesses, release.Witness{Key: w.Key, Label: "dev"})
	}
	return p
}

// Fork is another log, empty, with the same keys.
func (l *Log) Fork() *Log {
	return &Log{Signer: l.Signer, Witnesses: l.Witnesses, Time: l.Time, tb: l.tb}
}

// Add appends a record and answers its index.
func (l *Log) Add(record []byte) int64 {
	l.tb.Helper()
	n := int64(len(l.records))
	stored, err := tlog.StoredHashes(n, record, tlog.HashReaderFunc(l.read))
	if err != nil {
		l.tb.Fatal(err)
	}
	l.records, l.hashes = append(l.records, record), append(l.hashes, stored...)
	return n
}

func (l *Log) read(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		if i >= int64(len(l.hashes)) {
			return nil, errors.New("no such hash")
		}
		out = append(out, l.hashes[i])
	}
	return out, nil
}

// Head is the log's head as it stands.
func (l *Log) Head() checkpoint.Checkpoint {
	l.tb.Helper()
	root, err := tlog.TreeHash(int64(len(l.records)), tlog.HashReaderFunc(l.read))
	if err != nil {
		l.tb.Fatal(err)
	}
	return checkpoint.Checkpoint{Origin: l.Signer.Name(), Size: int64(len(l.records)), Root: root}
}

// Checkpoint signs the head with the log's key and the witnesses'.
func (l *Log) Checkpoint() []byte {
	l.tb.Helper()
	signers := []note.Signer{l.Signer}
	for _, w := range l.Witnesses {
		signers = append(signers, w)
	}
	b, err := checkpoint.Sign(l.Head(), signers...)
	if err != nil {
		l.tb.Fatal(err)
	}
	return b
}

// Growth proves that the log grew from a size to its head.
func (l *Log) Growth(from int64) tlog.TreeProof {
	l.tb.Helper()
	p, err := tlog.ProveTree(int64(len(l.records)), from, tlog.HashReaderFunc(l.read))
	if err != nil {
		l.tb.Fatal(err)
	}
	return p
}

// Proof proves one index against a signed checkpoint of the head.
func (l *Log) Proof(index int64, signed []byte) *logproof.Proof {
	l.tb.Helper()
	path, err := tlog.ProveRecord(int64(len(l.records)), index, tlog.HashReaderFunc(l.read))
	if err != nil {
		l.tb.Fatal(err)
	}
	return &logproof.Proof{Record: l.records[index], Index: index, Path: path, Checkpoint: signed}
}

// Document is what a machine shows: the release at index, and others beside it.
func (l *Log) Document(index int64, beside ...int64) []byte {
	l.tb.Helper()
	return l.DocumentOf(l.Checkpoint(), index, beside...)
}

// DocumentOf is Document with the checkpoint given.
func (l *Log) DocumentOf(signed []byte, index int64, beside ...int64) []byte {
	l.tb.Helper()
	d := logproof.Document{Release: l.Proof(index, signed).Encode()}
	for _, n := range beside {
		d.Beside = append(d.Beside, l.Proof(n, signed).Encode())
	}
	b, err := d.Encode()
	if err != nil {
		l.tb.Fatal(err)
	}
	return b
}

// ReleaseKey is a key that signs releases.
type ReleaseKey struct {
	*ecdsa.PrivateKey
	tb testing.TB
}

// NewReleaseKey draws one.
func NewReleaseKey(tb testing.TB) ReleaseKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return ReleaseKeyOf(tb, key)
}

// ReleaseKeyOf is a test's own key.
func ReleaseKeyOf(tb testing.TB, key *ecdsa.PrivateKey) ReleaseKey {
	return ReleaseKey{PrivateKey: key, tb: tb}
}

// SignMessage signs as entries and bundles want it.
func (k ReleaseKey) SignMessage(message []byte) ([]byte, error) {
	hash := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, k.PrivateKey, hash[:])
}

// DER is the public half as entries name it.
func (k ReleaseKey) DER() []byte {
	k.tb.Helper()
	der, err := logentry.MarshalKey(k.Public())
	if err != nil {
		k.tb.Fatal(err)
	}
	return der
}

// Entry signs a statement.
func (k ReleaseKey) Entry(body logentry.Body) []byte {
	k.tb.Helper()
	return SignEntry(k.tb, body, k.DER(), k.SignMessage)
}

// SignEntry signs a statement with whatever key.
func SignEntry(tb testing.TB, body logentry.Body, key []byte, sign func([]byte) ([]byte, error)) []byte {
	tb.Helper()
	e, err := logentry.Sign(body, key, sign)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := e.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
