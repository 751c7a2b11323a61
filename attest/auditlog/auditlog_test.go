package auditlog_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/logentry"
)

// chain is synthetic: results that a test key signs.
type chain struct {
	t       testing.TB
	key     *ecdsa.PrivateKey
	head    auditlog.Head
	records []auditlog.Record
	logged  []auditlog.Logged
}

// newChain has some entries, with heads in the log after every second.
func newChain(t testing.TB, entries int) *chain {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{t: t, key: key}
	for n := range entries {
		c.add(fmt.Sprintf("instance-%d", n))
		if n%2 == 1 {
			c.log(c.head)
		}
	}
	return c
}

func (c *chain) entry(instance string) auditlog.Entry {
	c.t.Helper()
	at := time.Date(2026, 11, 25, 12, 0, int(c.head.Count), 5000, time.UTC)
	claims := ear.Issue(ear.Issuer{Role: ear.ControlPlane, At: at}, ear.Subject{}, attest.AttestationResult{})
	token, err := ear.Sign(rand.Reader, claims, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return auditlog.Entry{Index: c.head.Count, At: at.UnixMicro(), Instance: instance, Machine: "machine", EAR: token}
}

func (c *chain) add(instance string) {
	c.t.Helper()
	e := c.entry(instance)
	head, err := c.head.Next(&e)
	if err != nil {
		c.t.Fatal(err)
	}
	c.head = head
	c.records = append(c.records, auditlog.Record{Entry: e, Hash: head.Hash})
}

func (c *chain) log(h auditlog.Head) {
	c.t.Helper()
	der, err := auditlog.MarshalKey(c.key.Public())
	if err != nil {
		c.t.Fatal(err)
	}
	body := logentry.Body{Kind: logentry.KindAuditHead, AuditHead: &logentry.AuditHead{Head: h.Hash, Count: h.Count}}
	e, err := logentry.Sign(body, der, func(m []byte) ([]byte, error) {
		digest := sha256.Sum256(m)
		return ecdsa.SignASN1(rand.Reader, c.key, digest[:])
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.logged = append(c.logged, auditlog.Logged{Index: int64(len(c.logged)), Entry: e})
}

// rehash makes the chain hold again after a change, as its keeper could.
func (c *chain) rehash() {
	c.t.Helper()
	c.head = auditlog.Head{}
	for n := range c.records {
		c.records[n].Index = c.head.Count
		head, err := c.head.Next(&c.records[n].Entry)
		if err != nil {
			c.t.Fatal(err)
		}
		c.head, c.records[n].Hash = head, head.Hash
	}
}

func (c *chain) all() iter.Seq2[*auditlog.Record, error] {
	return func(yield func(*auditlog.Record, error) bool) {
		for n := range c.records {
			if !yield(&c.records[n], nil) {
				return
			}
		}
	}
}

func (c *chain) problems() (found []auditlog.Problem) {
	c.t.Helper()
	report, err := auditlog.Verify(c.all(), c.head, c.key.Public(), c.logged)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range report.Findings {
		if !slices.Contains(found, f.Problem) {
			found = append(found, f.Problem)
		}
	}
	return found
}

func TestHolds(t *testing.T) {
	c := newChain(t, 7)
	report, err := auditlog.Verify(c.all(), c.head, c.key.Public(), c.logged)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) > 0 || report.Head != c.head || report.Heads != 3 || report.Covered != 6 {
		t.Errorf("report %+v", report)
	}
	c.log(c.head)
	c.log(c.head)
	if got := c.problems(); got != nil {
		t.Errorf("the same head twice: %v", got)
	}
	if got := newChain(t, 0).problems(); got != nil {
		t.Errorf("an empty chain: %v", got)
	}
}

// What a keeper of the chain could do to it, clumsily and with care: with care
// every hash is made anew, and only the log knows.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*chain)
		want []auditlog.Problem
	}{
		"an entry changed": {func(c *chain) { c.records[2].Instance = "another" }, []auditlog.Problem{auditlog.Changed}},
		"an entry changed with care": {func(c *chain) {
			c.records[2].Instance = "another"
			c.rehash()
		}, []auditlog.Problem{auditlog.Fork}},
		"a result changed": {func(c *chain) { c.records[2].EAR = c.records[1].EAR }, []auditlog.Problem{auditlog.Changed}},
		"a result of another key": {func(c *chain) {
			c.records[2].EAR = newChain(c.t, 3).records[2].EAR
			c.rehash()
		}, []auditlog.Problem{auditlog.Foreign, auditlog.Fork}},
		"a time changed with care": {func(c *chain) {
			c.records[6].At += 5e6
			c.rehash()
		}, []auditlog.Problem{auditlog.Changed}},
		"an entry removed": {func(c *chain) { c.records = slices.Delete(c.records, 2, 3) },
			[]auditlog.Problem{auditlog.Missing, auditlog.Changed, auditlog.Truncated, auditlog.Fork}},
		"an entry removed with care": {func(c *chain) {
			c.records = slices.Delete(c.records, 2, 3)
			c.rehash()
		}, []auditlog.Problem{auditlog.Fork}},
		"the first entry removed with care": {func(c *chain) {
			c.records = c.records[1:]
			c.rehash()
		}, []auditlog.Problem{auditlog.Fork}},
		"entries reordered": {func(c *chain) { c.records[2], c.records[3] = c.records[3], c.records[2] },
			[]auditlog.Problem{auditlog.Missing, auditlog.Changed, auditlog.Fork}},
		"entries reordered with care": {func(c *chain) {
			c.records[2], c.records[3] = c.records[3], c.records[2]
			c.rehash()
		}, []auditlog.Problem{auditlog.Fork}},
		"an entry twice with care": {func(c *chain) {
			c.records = slices.Insert(c.records, 3, c.records[2])
			c.rehash()
		}, []auditlog.Problem{auditlog.Fork}},
		"the tail cut": {func(c *chain) { c.records = c.records[:5] }, []auditlog.Problem{auditlog.Truncated}},
		"the tail cut with care": {func(c *chain) {
			c.records = c.records[:5]
			c.rehash()
		}, []auditlog.Problem{auditlog.Truncated}},
		"everything gone": {func(c *chain) {
			c.records = nil
			c.rehash()
		}, []auditlog.Problem{auditlog.Truncated}},
		"a head that is on no chain": {func(c *chain) {
			c.log(auditlog.Head{Count: 7, Hash: attest.Digest{1}})
		}, []auditlog.Problem{auditlog.Fork}},
		"heads out of order": {func(c *chain) {
			c.log(auditlog.Head{Count: 2, Hash: c.records[1].Hash})
		}, []auditlog.Problem{auditlog.Rollback}},
		"a head of another key": {func(c *chain) {
			c.logged = append(c.logged, newChain(c.t, 2).logged...)
		}, []auditlog.Problem{auditlog.Foreign}},
		"another end than was stated": {func(c *chain) { c.head.Hash[0]++ }, []auditlog.Problem{auditlog.Truncated}},
	} {
		chain := newChain(t, 7)
		c.do(chain)
		got := chain.problems()
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Each head behind one with more entries is found, and one of them is no new
// beginning.
func TestEachHeadOutOfOrderIsFound(t *testing.T) {
	c := newChain(t, 7)
	for _, count := range []uint64{2, 4} {
		c.log(auditlog.Head{Count: count, Hash: c.records[count-1].Hash})
	}
	report, err := auditlog.Verify(c.all(), c.head, c.key.Public(), c.logged)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 2 || report.Findings[1].Problem != auditlog.Rollback || report.Covered != 6 {
		t.Errorf("report %+v", report)
	}
}

// What an entry is hashed to keeps its meaning: heads of it stand in the log.
func TestHashIsKept(t *testing.T) {
	e := &auditlog.Entry{Index: 1, At: 2, Instance: "instance", Machine: "machine", EAR: "ear"}
	head, err := auditlog.Head{Count: 1, Hash: attest.Digest{3}}.Next(e)
	const want = "4a640eded15d168d9039bc2fb0d870d6ab40adad46a5ba3939af7730c16277ac"
	if err != nil || head.Count != 2 || head.Hash.String() != want {
		t.Errorf("%+v, %v, want %s", head, err, want)
	}
	for _, count := range []uint64{0, 2} {
		if _, err := (auditlog.Head{Count: count}).Next(e); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("entry 1 after %d: %v", count, err)
		}
	}
}

// No chain has an entry that names nothing, or more than there is room for.
func TestEntriesThatNoChainHas(t *testing.T) {
	for name, change := range map[string]func(*auditlog.Entry){
		"no time":         func(e *auditlog.Entry) { e.At = 0 },
		"no instance":     func(e *auditlog.Entry) { e.Instance = "" },
		"a long instance": func(e *auditlog.Entry) { e.Instance = strings.Repeat("i", 65) },
		"no machine":      func(e *auditlog.Entry) { e.Machine = "" },
		"a long machine":  func(e *auditlog.Entry) { e.Machine = strings.Repeat("m", 65) },
		"an escape":       func(e *auditlog.Entry) { e.Instance = "\x1b[2Jinstance" },
		"a line":          func(e *auditlog.Entry) { e.Machine = "machine\n" },
		"no ascii":        func(e *auditlog.Entry) { e.Machine = "m\u00e4chine" },
		"no result":       func(e *auditlog.Entry) { e.EAR = "" },
		"a long result":   func(e *auditlog.Entry) { e.EAR = strings.Repeat("e", ear.MaxBytes+1) },
	} {
		e := &auditlog.Entry{At: 1, Instance: "instance", Machine: "machine", EAR: "ear"}
		change(e)
		if _, err := (auditlog.Head{}).Next(e); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExportSurvives(t *testing.T) {
	c := newChain(t, 5)
	der, err := auditlog.MarshalKey(c.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := auditlog.Write(&b, auditlog.Export{Key: der, Head: c.head}, c.all()); err != nil {
		t.Fatal(err)
	}
	x, records, err := auditlog.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	key, err := auditlog.ParseKey(x.Key)
	if err != nil {
		t.Fatal(err)
	}
	report, err := auditlog.Verify(records, x.Head, key, c.logged)
	if err != nil || len(report.Findings) > 0 || report.Head != c.head {
		t.Errorf("report %+v, %v", report, err)
	}
}

func TestReadRefuses(t *testing.T) {
	const first = `{"version":1,"key":"","count":0,"hash":"0000000000000000000000000000000000000000000000000000000000000000"}` + "\n"
	for name, text := range map[string]string{
		"empty": "", "no json": "x", "another version": strings.Replace(first, `"version":1`, `"version":2`, 1),
		"no version":       strings.Replace(first, `"version":1`, `"version":0`, 1),
		"an unknown field": strings.Replace(first, `{`, `{"more":1,`, 1),
		"a long line":      first + strings.Repeat("a", 64<<10), "half an entry": first + `{"index":`,
		"an entry of nothing": first + "{}", "an unknown field of an entry": first + `{"more":1}`,
	} {
		x, records, err := auditlog.Read(strings.NewReader(text))
		if err == nil {
			c := newChain(t, 0)
			_, err = auditlog.Verify(records, x.Head, c.key.Public(), nil)
		}
		if !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	c := newChain(f, 1)
	var b bytes.Buffer
	if err := auditlog.Write(&b, auditlog.Export{Head: c.head}, c.all()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, records, err := auditlog.Read(bytes.NewReader(b))
		if err == nil {
			_, err = auditlog.Verify(records, x.Head, c.key.Public(), nil)
		}
		if err != nil && !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("error %v of no known kind", err)
		}
	})
}

// A key of another kind signs no results, whoever shows it.
func TestKeysThatSignNoResults(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := auditlog.MarshalKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auditlog.ParseKey(der); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("Ed25519: %v", err)
	}
	if _, err := auditlog.ParseKey([]byte("nonsense")); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("no key: %v", err)
	}
	if _, err := auditlog.Verify(func(func(*auditlog.Record, error) bool) {}, auditlog.Head{}, public, nil); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("a chain by Ed25519: %v", err)
	}
}
