package agent_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"reflect"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent"
	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/ingress"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

func sign(t *testing.T, keys client.Keys, name []byte) *ownership.Claim {
	t.Helper()
	c, err := ownership.Sign(keys.Owner, ownership.Body{AKName: name, Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: [32]byte{9}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// akName is that of the machine's attestation key.
func (m *machine) akName() []byte {
	m.t.Helper()
	s, err := m.trust().Connect(m.t.Context(), m.url, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer s.Close()
	return s.Evidence.AK
}

// A claim that the machine cannot take leaves it without an owner.
func TestClaimThatIsNotTaken(t *testing.T) {
	m := newMachine(t)
	name := m.akName()
	foreign := append([]byte{}, name...)
	foreign[10]++
	if err := m.Claim(t.Context(), sign(t, newKeys(t), foreign)); !errors.Is(err, attest.ErrClaim) {
		t.Errorf("a claim on another machine: %v", err)
	}
	if err := os.WriteFile(m.disk, []byte("somebody's data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(m.disk, 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := m.Claim(t.Context(), sign(t, newKeys(t), name)); !errors.Is(err, seal.ErrNotBlank) {
		t.Errorf("a claim over data: %v", err)
	}
	if m.Owner() != nil {
		t.Error("the machine has an owner")
	}
	m.reboot()
	if m.Owner() != nil {
		t.Error("after a reboot the machine has an owner")
	}
}

// Nobody owns a machine whose register does not say so: what is sealed could
// still be opened.
func TestClaimThatIsNotInTheRegister(t *testing.T) {
	m := newMachine(t)
	device := &failing{codes: []tpm2.TPMCC{tpm2.TPMCCPCRExtend}}
	m.wrap = func(under transport.TPM) transport.TPM {
		device.TPM = under
		return device
	}
	m.reboot()
	c := sign(t, newKeys(t), m.akName())
	device.broken = true
	if err := m.Claim(t.Context(), c); err == nil {
		t.Error("the claim was taken")
	}
	if m.Owner() != nil {
		t.Error("the machine has an owner")
	}
	device.broken = false
}

// A client that leaves once its claim is committed does not stop the rest.
func TestClaimGoesOnWithoutItsClient(t *testing.T) {
	m := newMachine(t)
	c := sign(t, newKeys(t), m.akName())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Claim(ctx, c); err != nil {
		t.Error(err)
	}
	if got := m.data.mounted[len(m.data.mounted)-1]; got != m.disk {
		t.Errorf("mounted %s last", got)
	}
}

// swapped takes another claim than the one it is given.
type swapped struct {
	*agent.Machine
	other *ownership.Claim
}

func (s swapped) Claim(ctx context.Context, _ *ownership.Claim) error {
	return s.Machine.Claim(ctx, s.other)
}

// serveMachine serves front in place of m, at the address it answers.
func serveMachine(t *testing.T, m *machine, front ingress.Machine) string {
	t.Helper()
	d := m.Ingress()
	d.Rand, d.Machine = rand.Reader, front
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		d.Serve(ctx, l) //nolint:errcheck // it ends with ctx
	}()
	t.Cleanup(func() { cancel(); <-served })
	return "https://" + l.Addr().String()
}

// An owner whose claim was swapped for another's is told so.
func TestClaimThatWasSwapped(t *testing.T) {
	m := newMachine(t)
	at := serveMachine(t, m, swapped{m.Machine, sign(t, newKeys(t), m.akName())})
	s, err := m.trust().Connect(t.Context(), parse(t, at), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	refused(t, s.Claim(t.Context(), newKeys(t)), attest.ErrClaim)
}

// The control plane, which has them, is not sent the reference values.
func TestReferenceValuesAreForClients(t *testing.T) {
	m := newMachine(t)
	for role, want := range map[attest.Role]bool{attest.RoleServe: true, attest.RoleEnrol: false} {
		b, err := m.Evidence(attest.Channel{Role: role, SPKI: m.Ingress().SPKI, Exporter: [32]byte{1}}, attest.Nonce{1})
		if err != nil {
			t.Fatal(err)
		}
		e, err := evidence.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(e.ReferenceValues.Manifest) > 0; got != want {
			t.Errorf("role %d: reference values %t", role, got)
		}
	}
}

// What the control plane hands out stands beside the machine's own certificate,
// and what is no endorsement does not keep it from proving itself.
func TestEndorsementsAreMerged(t *testing.T) {
	m := newMachine(t)
	handed := evidence.Endorsements{
		EKCertificate: []byte("another's"), EKIntermediates: [][]byte{[]byte("between")}, RevocationLists: [][]byte{[]byte("list")},
	}
	encoded, err := handed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	own := handed
	own.EKCertificate = m.EKCertificate()
	alone := evidence.Endorsements{EKCertificate: m.EKCertificate()}
	for _, c := range []struct {
		handed []byte
		want   evidence.Endorsements
		err    error
	}{
		{nil, alone, nil},
		{encoded, own, nil},
		{[]byte("nothing"), alone, attest.ErrMalformed},
		{make([]byte, api.MaxEndorsements+1), alone, attest.ErrMalformed},
	} {
		if err := m.Endorse(c.handed); !errors.Is(err, c.err) {
			t.Errorf("error %v, want %v", err, c.err)
		}
		b, err := m.Evidence(attest.Channel{Role: attest.RoleServe, SPKI: m.Ingress().SPKI}, attest.Nonce{1})
		if err != nil {
			t.Fatal(err)
		}
		e, err := evidence.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := evidence.DecodeEndorsements(e.Endorsements)
		if err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// A machine whose TPM came without a certificate shows the one that was made for
// its key, and none of another's.
func TestCertificateIsHandedOut(t *testing.T) {
	m := newMachineWith(t, swtpmtest.StartUncertified(t))
	key, err := x509.ParsePKIXPublicKey(m.EKPublic())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		certificate []byte
		shown       bool
		err         error
	}{
		"its own":      {certificateOf(t, key), true, nil},
		"none":         {nil, true, nil},
		"another's":    {certificateOf(t, m.key.Public()), false, attest.ErrMalformed},
		"no one's":     {[]byte("certificate"), false, attest.ErrMalformed},
		"half of one":  {certificateOf(t, key)[:100], false, attest.ErrMalformed},
		"bytes behind": {append(certificateOf(t, key), 0), false, attest.ErrMalformed},
	} {
		handed, err := (&evidence.Endorsements{EKCertificate: c.certificate}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Endorse(handed); !errors.Is(err, c.err) {
			t.Errorf("%s: error %v, want %v", name, err, c.err)
		}
		b, err := m.Evidence(attest.Channel{Role: attest.RoleServe, SPKI: m.Ingress().SPKI}, attest.Nonce{1})
		if err != nil {
			t.Fatal(err)
		}
		e, err := evidence.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := evidence.DecodeEndorsements(e.Endorsements)
		want := c.certificate
		if !c.shown {
			want = nil
		}
		if err != nil || !bytes.Equal(got.EKCertificate, want) {
			t.Errorf("%s: shows %x, %v", name, got.EKCertificate, err)
		}
	}
}

// certificateOf is a certificate of a key, by whomever.
func certificateOf(t *testing.T, key any) []byte {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A token that the measured configuration does not name is none.
func TestTokenIsTheMeasuredOne(t *testing.T) {
	tpm, err := attester.Open(swtpmtest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	config, err := api.Config{
		Version: api.ConfigVersion, Machine: "aaaaaaaaaaaaaaaaaaaaaaaaaa", ControlPlane: "127.0.0.1:1", TokenHash: api.Token{1}.Hash(),
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	parts := agent.Parts{TPM: tpm, Volume: new(seal.DataVolume), Log: zap.NewNop()}
	m := agent.New(parts)
	if err := m.Configure(config, api.Token{2}); !errors.Is(err, api.ErrConfig) {
		t.Errorf("another token: %v", err)
	}
	if _, err := m.Evidence(attest.Channel{}, attest.Nonce{}); !errors.Is(err, api.ErrConfig) {
		t.Errorf("evidence without a configuration: %v", err)
	}
	if err := m.Configure(config, api.Token{1}); err != nil {
		t.Errorf("the token: %v", err)
	}
}
