package evidence_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

func sample() *evidence.Evidence {
	return &evidence.Evidence{
		Version: evidence.Version, Binding: evidence.BindingExporter, Role: attest.RoleServe,
		SPKI: []byte{1}, Config: attest.Digest{2}, Claim: attest.Digest{3},
		TPM: evidence.TPM{
			AKPublic: []byte{5}, Quote: []byte{6}, Signature: []byte{7}, Registers: []attest.Digest{{8}},
		},
		Batch: evidence.Batch{Count: 1, Path: []attest.Digest{}}, Endorsements: []byte{4}, EventLog: []byte{9},
		Reports: []evidence.Report{{Kind: evidence.KindSNP, Report: []byte{10}, Certificates: []byte{11}}},
	}
}

func encode(t testing.TB, e *evidence.Evidence) []byte {
	t.Helper()
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzDecode(f *testing.F) {
	good := encode(f, sample())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(append(bytes.Clone(good), 0))
	azure := sample()
	azure.Reports = []evidence.Report{{Kind: evidence.KindAzure, Report: []byte("HCLA"), Certificates: []byte{11}}}
	f.Add(encode(f, azure))
	f.Add([]byte{0xa1, 0x01, 0x18, 0x02})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := evidence.Decode(b)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v, want %v", err, attest.ErrMalformed)
			}
			return
		}
		if !bytes.Equal(encode(t, e), b) {
			t.Error("two encodings of one value decode")
		}
		var again evidence.Evidence
		if err := canon.Unmarshal("evidence", b, evidence.MaxBytes, &again); err != nil {
			t.Errorf("the reader by reflection refuses what is read by hand: %v", err)
		}
	})
}

func FuzzDecodeEndorsements(f *testing.F) {
	whole, err := (&evidence.Endorsements{
		EKCertificate: []byte{1}, EKIntermediates: [][]byte{{2}}, ReportCertificates: [][]byte{{3}, {4}},
		RevocationLists: [][]byte{{5}}, TDX: []byte{6}, AKCertificate: []byte{7}, AKIntermediates: [][]byte{{8}},
	}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := evidence.DecodeEndorsements(b)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v, want %v", err, attest.ErrMalformed)
			}
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("two encodings of one value decode: %v", err)
		}
	})
}

// What is written by hand is what the library writes by the types' tags.
func TestEncodingIsTheLibrarys(t *testing.T) {
	whole := sample()
	whole.ReferenceValues = evidence.ReferenceValues{Manifest: []byte{1}, Bundle: make([]byte, 300), Proof: make([]byte, 70_000)}
	whole.Batch.Path = []attest.Digest{{1}, {2}}
	least := sample()
	least.Reports, least.EventLog = nil, nil
	for name, e := range map[string]*evidence.Evidence{"whole": whole, "least": least} {
		want, err := canon.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got := encode(t, e); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
		if _, err := evidence.Decode(want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A number in more bytes than it needs is another encoding of the same value.
func TestSecondEncodingIsRefused(t *testing.T) {
	good := encode(t, sample())
	// The map's first pair is 1: 1, with the value in one byte.
	long := append([]byte{good[0], 0x01, 0x18, 0x01}, good[3:]...)
	if _, err := evidence.Decode(long); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("error %v", err)
	}
}

func TestReportsAreOneOfEachKindInOrder(t *testing.T) {
	snp, tdx := evidence.Report{Kind: evidence.KindSNP, Report: []byte{1}}, evidence.Report{Kind: evidence.KindTDX, Report: []byte{2}}
	for name, c := range map[string]struct {
		reports []evidence.Report
		want    error
	}{
		"both":       {[]evidence.Report{snp, tdx}, nil},
		"one twice":  {[]evidence.Report{snp, snp}, attest.ErrMalformed},
		"unordered":  {[]evidence.Report{tdx, snp}, attest.ErrMalformed},
		"all":        {[]evidence.Report{snp, tdx, {Kind: evidence.KindNitroTPM, Report: []byte{3}}, {Kind: evidence.KindAzure, Report: []byte{4}}}, nil},
		"too many":   {[]evidence.Report{snp, tdx, {Kind: evidence.KindNitroTPM, Report: []byte{3}}, {Kind: evidence.KindAzure, Report: []byte{4}}, {Kind: 5, Report: []byte{5}}}, attest.ErrMalformed},
		"unknown":    {[]evidence.Report{{Kind: 5, Report: []byte{5}}}, attest.ErrMalformed},
		"of no kind": {[]evidence.Report{{Report: []byte{4}}}, attest.ErrMalformed},
		"largest":    {[]evidence.Report{{Kind: evidence.KindSNP, Report: make([]byte, evidence.MaxReport)}}, nil},
		"too large":  {[]evidence.Report{{Kind: evidence.KindSNP, Report: make([]byte, evidence.MaxReport+1)}}, attest.ErrMalformed},
		"certificates too large": {[]evidence.Report{{
			Kind: evidence.KindSNP, Report: []byte{1}, Certificates: make([]byte, evidence.MaxReportCertificates+1),
		}}, attest.ErrMalformed},
	} {
		e := sample()
		e.Reports = c.reports
		if _, err := evidence.Decode(encode(t, e)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Each part has its own cap, far below what the whole may have.
func TestPartsAreCapped(t *testing.T) {
	for name, change := range map[string]func(*evidence.Evidence){
		"spki":         func(e *evidence.Evidence) { e.SPKI = make([]byte, evidence.MaxTPMStructure+1) },
		"ak":           func(e *evidence.Evidence) { e.TPM.AKPublic = make([]byte, evidence.MaxTPMStructure+1) },
		"quote":        func(e *evidence.Evidence) { e.TPM.Quote = make([]byte, evidence.MaxTPMStructure+1) },
		"signature":    func(e *evidence.Evidence) { e.TPM.Signature = make([]byte, evidence.MaxTPMStructure+1) },
		"registers":    func(e *evidence.Evidence) { e.TPM.Registers = make([]attest.Digest, 25) },
		"path":         func(e *evidence.Evidence) { e.Batch.Path = make([]attest.Digest, evidence.MaxPath+1) },
		"event log":    func(e *evidence.Evidence) { e.EventLog = make([]byte, evidence.MaxEventLog+1) },
		"endorsements": func(e *evidence.Evidence) { e.Endorsements = make([]byte, evidence.MaxEndorsements+1) },
	} {
		e := sample()
		change(e)
		if _, err := evidence.Decode(encode(t, e)); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndorsementsAreCapped(t *testing.T) {
	entries := func(n int) [][]byte {
		all := make([][]byte, n)
		for i := range all {
			all[i] = []byte{1}
		}
		return all
	}
	for name, make := range map[string]func(more int) evidence.Endorsements{
		"intermediates": func(more int) evidence.Endorsements {
			return evidence.Endorsements{EKCertificate: []byte{1}, EKIntermediates: entries(evidence.MaxIntermediates + more)}
		},
		"certificates": func(more int) evidence.Endorsements {
			return evidence.Endorsements{EKCertificate: []byte{1}, ReportCertificates: entries(evidence.MaxIntermediates + more)}
		},
		"ak intermediates": func(more int) evidence.Endorsements {
			return evidence.Endorsements{AKCertificate: []byte{1}, AKIntermediates: entries(evidence.MaxIntermediates + more)}
		},
		"lists": func(more int) evidence.Endorsements {
			return evidence.Endorsements{EKCertificate: []byte{1}, RevocationLists: entries(evidence.MaxRevocationLists + more)}
		},
	} {
		for more, want := range []error{nil, attest.ErrMalformed} {
			e := make(more)
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := evidence.DecodeEndorsements(b); !errors.Is(err, want) {
				t.Errorf("%d %s too many: %v, want %v", more, name, err, want)
			}
		}
	}
}

// tree answers the root of leaves and the path of each, the plain way: level
// by level, an odd node moving up unchanged.
func tree(leaves []attest.Digest) (attest.Digest, [][]attest.Digest) {
	paths := make([][]attest.Digest, len(leaves))
	place := make([]int, len(leaves))
	for i := range leaves {
		place[i] = i
	}
	for level := leaves; ; {
		if len(level) == 1 {
			return level[0], paths
		}
		var next []attest.Digest
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				next = append(next, level[i])
				continue
			}
			next = append(next, attest.Node(level[i], level[i+1]))
		}
		for leaf, at := range place {
			if sibling := at ^ 1; sibling < len(level) {
				paths[leaf] = append(paths[leaf], level[sibling])
			}
			place[leaf] = at / 2
		}
		level = next
	}
}

func TestBatchRoot(t *testing.T) {
	for count := 1; count <= 33; count++ {
		leaves := make([]attest.Digest, count)
		for i := range leaves {
			leaves[i] = attest.Sum(fmt.Append(nil, i))
		}
		root, paths := tree(leaves)
		for i, path := range paths {
			b := evidence.Batch{Count: uint32(count), Index: uint32(i), Path: path}
			if got, err := b.Root(leaves[i]); err != nil || got != root {
				t.Errorf("leaf %d of %d: root %v, error %v", i, count, got == root, err)
			}
			if count == 1 {
				continue
			}
			if got, err := b.Root(attest.Digest{}); err != nil || got == root {
				t.Errorf("leaf %d of %d: another leaf has the same root", i, count)
			}
			b.Path = b.Path[1:]
			if _, err := b.Root(leaves[i]); !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("leaf %d of %d: a short path: %v", i, count, err)
			}
			b.Path = append([]attest.Digest{{}}, path...)
			if _, err := b.Root(leaves[i]); !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("leaf %d of %d: a long path: %v", i, count, err)
			}
		}
	}
	for _, b := range []evidence.Batch{{}, {Count: 1, Index: 1}, {Count: 1<<20 + 1}} {
		if _, err := b.Root(attest.Digest{}); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%+v: %v", b, err)
		}
	}
}

// A node never stands for a leaf: the two hashes begin with other bytes.
func TestNodeIsNoLeaf(t *testing.T) {
	var c attest.Channel
	if c.Leaf(attest.Nonce{}, attest.Digest{}, attest.Digest{}) == attest.Node(attest.Digest{}, attest.Digest{}) {
		t.Error("a leaf equals a node")
	}
}
