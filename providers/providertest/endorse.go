package providertest

import (
	"bytes"
	"crypto/x509"

	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/providers"
)

var endorseCases = []testCase{
	{name: "endorse-names-a-key-of-a-known-kind", needs: providers.CapabilityEndorse, check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		b.endorsementKey(req.Machine)
	}},
	{name: "endorse-names-the-same-key-again", needs: providers.CapabilityEndorse, check: endorseIsTheSame},
	{name: "endorse-names-another-key-for-another-machine", needs: providers.CapabilityEndorse, check: func(t T, s *suite) {
		b := s.bench(t)
		one, _ := b.create()
		other, _ := b.create()
		if bytes.Equal(b.endorsementKey(one.Machine), b.endorsementKey(other.Machine)) {
			t.Errorf("two machines have one key")
		}
	}},
	{name: "endorse-of-nothing-is-not-found", needs: providers.CapabilityEndorse, check: endorseOfNothing},
	{name: "endorse-survives-faults", needs: providers.CapabilityEndorse, check: endorseFaults},
}

func (b *bench) endorser() providers.Endorser {
	b.t.Helper()
	e, ok := b.Provider.(providers.Endorser)
	if !ok {
		b.t.Fatalf("the provider says that it names endorsement keys, and does not")
	}
	return e
}

// endorsementKey is the machine's, which must be one that a control plane can
// challenge. A cloud may know it a while after the machine.
func (b *bench) endorsementKey(id providers.MachineID) (key []byte) {
	b.t.Helper()
	err := b.insist(b.t.Context(), func() (err error) {
		key, err = b.endorser().EndorsementKey(b.t.Context(), id)
		return err
	})
	if err != nil {
		b.t.Fatalf("EndorsementKey: %v", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(key)
	if err != nil {
		b.t.Fatalf("EndorsementKey answered no SubjectPublicKeyInfo: %v", err)
	}
	if _, err := tpm.EKWithoutCertificate(parsed); err != nil {
		b.t.Fatalf("EndorsementKey: %v", err)
	}
	return key
}

func endorseIsTheSame(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	first := b.endorsementKey(req.Machine)
	b.power(req.Machine, false)
	b.await(req.Machine, providers.PowerOff)
	b.power(req.Machine, true)
	b.await(req.Machine, providers.PowerOn)
	if !bytes.Equal(first, b.endorsementKey(req.Machine)) {
		t.Errorf("the key is another one after the machine was off")
	}
}

func endorseOfNothing(t T, s *suite) {
	b := s.bench(t)
	_, err := b.endorser().EndorsementKey(t.Context(), providers.MachineID(newID()))
	wantCode(t, "EndorsementKey", err, providers.CodeNotFound)
	req, _ := b.create()
	b.gone(req.Machine, false)
	_, err = b.endorser().EndorsementKey(t.Context(), req.Machine)
	wantCode(t, "EndorsementKey of a machine that is gone", err, providers.CodeNotFound)
}

// endorseFaults holds that a cloud in trouble names no key, neither an empty one
// nor that of a machine that it does not show, and the right one afterwards.
func endorseFaults(t T, s *suite) {
	if !s.has(CapabilityFaults) {
		t.Skipf("the capability %s is not offered", CapabilityFaults)
	}
	b := s.bench(t)
	req, _ := b.create()
	key := b.endorsementKey(req.Machine)
	for kind, want := range map[FaultKind]providers.Code{FaultUnavailable: providers.CodeUnavailable, FaultThrottle: providers.CodeThrottled} {
		b.inject(Fault{Kind: kind})
		got, err := b.endorser().EndorsementKey(t.Context(), req.Machine)
		wantCode(t, "EndorsementKey during "+string(kind), err, want)
		if len(got) > 0 {
			t.Errorf("a key came with the error")
		}
		if err := b.Faults.Clear(t.Context()); err != nil {
			t.Fatalf("Clear: %v", err)
		}
	}
	if !bytes.Equal(key, b.endorsementKey(req.Machine)) {
		t.Errorf("the key is another one afterwards")
	}
	b.inject(Fault{Kind: FaultLag, For: lag})
	late, err := b.tryCreate()
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if _, err := b.endorser().EndorsementKey(t.Context(), late.Machine); providers.CodeOf(err) == providers.CodeNotFound {
		t.Errorf("EndorsementKey answered NOT_FOUND for a machine that was just made")
	}
	if bytes.Equal(key, b.endorsementKey(late.Machine)) {
		t.Errorf("a machine that was not to be seen has another's key")
	}
}
