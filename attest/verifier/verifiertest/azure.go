package verifiertest

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/azure/azuretest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Azure stands in for the paravisor of an Azure confidential VM: its TPM is the
// machine's, its processor one of the stand-ins. Synthetic.
type Azure struct {
	// SNP or TDX is the processor; the other is nil.
	SNP *SNP
	TDX *TDX
	// Claims name AK and EK. Whoever changes them changes the report's data.
	Claims string
	AK, EK *rsa.PublicKey
	// EditSNP and EditTDX change the processor's report before it is signed,
	// EditIndex what lies in the TPM; each may be nil.
	EditSNP   func(*snp.Report)
	EditTDX   func(*tdxtest.Draft)
	EditIndex func([]byte) []byte

	device   transport.TPM
	key      tpm2.NamedHandle
	akPublic []byte
}

// akHandle is where a paravisor keeps its attestation key, srkHandle where a
// guest keeps its storage key.
const (
	akHandle  = 0x81000003
	srkHandle = 0x81000001
)

// AKTemplate is the attestation key of Azure's virtual TPM: AKTemplate of
// package tpm, with RSA (microsoft/openvmm, tpm_protocol).
func AKTemplate() tpm2.TPMTPublic {
	public := tpm.AKTemplate()
	public.Type = tpm2.TPMAlgRSA
	public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
		Scheme: tpm2.TPMTRSAScheme{
			Scheme:  tpm2.TPMAlgRSASSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		KeyBits: 2048,
	})
	return public
}

// OnSNP has the machine's TPM run under a paravisor on a processor of AMD's.
func (s *SNP) OnSNP(t testing.TB, m *Machine) *Azure {
	t.Helper()
	m.Endorsements.RevocationLists = [][]byte{s.Vendor.ARK.List(nil, s.Revoked...)}
	return install(t, m, &Azure{SNP: s})
}

// OnTDX has the machine's TPM run under a paravisor on a processor of Intel's.
func (x *TDX) OnTDX(t testing.TB, m *Machine) *Azure {
	t.Helper()
	var err error
	if m.Endorsements.TDX, err = x.Collateral().Encode(); err != nil {
		t.Fatal(err)
	}
	return install(t, m, &Azure{TDX: x})
}

func install(t testing.TB, m *Machine, a *Azure) *Azure {
	t.Helper()
	a.device = m.Device
	_, ek := a.primary(t, tpm2.TPMRHEndorsement, tpm2.RSAEKTemplate, 0)
	key, ak := a.primary(t, tpm2.TPMRHEndorsement, AKTemplate(), akHandle)
	a.EK, a.AK, a.key, a.akPublic = rsaOf(t, ek), rsaOf(t, ak), key, tpm2.Marshal(ak)
	a.Claims = azuretest.Claims(a.AK, a.EK)
	m.Paravisor = a
	return a
}

// primary makes a key under a hierarchy, and keeps it where a
// handle is given.
func (a *Azure) primary(t testing.TB, hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic, keep tpm2.TPMHandle) (tpm2.NamedHandle, *tpm2.TPMTPublic) {
	t.Helper()
	made, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(a.device)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(a.device) //nolint:errcheck // the TPM ends with its test
	if keep != 0 {
		a.evict(t, tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, keep)
	}
	public, err := made.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.NamedHandle{Handle: keep, Name: made.Name}, public
}

// evict keeps a transient object at a handle, or drops a kept one from it.
func (a *Azure) evict(t testing.TB, object tpm2.NamedHandle, at tpm2.TPMHandle) {
	t.Helper()
	if _, err := (tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: &object, PersistentHandle: at}).Execute(a.device); err != nil {
		t.Fatal(err)
	}
}

func rsaOf(t testing.TB, public *tpm2.TPMTPublic) *rsa.PublicKey {
	t.Helper()
	key, err := tpm2.Pub(*public)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

// Report is what the paravisor leaves in the TPM.
func (a *Azure) Report() evidence.Report {
	r := evidence.Report{Kind: evidence.KindAzure}
	if a.SNP != nil {
		r.Report = azuretest.SNP(a.SNP.Key, a.Claims, azuretest.SHA256, a.EditSNP)
		r.Certificates = a.SNP.Key.Table()
	} else {
		r.Report = azuretest.TDX(a.TDX.Platform, a.Claims, azuretest.SHA256, a.EditTDX)
	}
	if a.EditIndex != nil {
		r.Report = a.EditIndex(r.Report)
	}
	return r
}

// signed puts the paravisor's key, report and quote into evidence.
func (a *Azure) signed(m *Machine, encoded []byte, leaf attest.Digest) ([]byte, error) {
	e, err := evidence.Decode(encoded)
	if err != nil {
		return nil, err
	}
	e.TPM.AKPublic, e.Reports = a.akPublic, []evidence.Report{a.Report()}
	if err := a.Sign(m, e, leaf); err != nil {
		return nil, err
	}
	return e.Encode()
}

// Sign has the paravisor's key sign what evidence is, for a leaf of it. Errors
// are the TPM's.
func (a *Azure) Sign(m *Machine, e *evidence.Evidence, leaf attest.Digest) error {
	root, err := e.Batch.Root(leaf)
	if err != nil {
		return err
	}
	e.TPM.Quote, e.TPM.Signature, err = m.QuoteOver(tpm.PCRSelection(), attest.QuoteData(e.Batch.Count, root, e.ReportsDigest()))
	return err
}

// Replace puts a key that its maker has where the TPM keeps the paravisor's, as
// whoever has the owner's authorization can: imported, with whatever attributes
// an imported key may have.
func (a *Azure) Replace(t testing.TB, key *rsa.PrivateKey) {
	t.Helper()
	public := AKTemplate()
	public.ObjectAttributes.FixedTPM, public.ObjectAttributes.FixedParent, public.ObjectAttributes.SensitiveDataOrigin = false, false, false
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
	a.evict(t, a.key, akHandle)
	a.key = a.imported(t, public, key.Primes[0].Bytes())
	a.akPublic, a.AK, a.Claims = tpm2.Marshal(public), &key.PublicKey, azuretest.Claims(&key.PublicKey, a.EK)
}

// imported is a key that was made elsewhere, kept at the attestation key's
// handle.
func (a *Azure) imported(t testing.TB, public tpm2.TPMTPublic, prime []byte) tpm2.NamedHandle {
	t.Helper()
	parent, _ := a.primary(t, tpm2.TPMRHOwner, tpm2.RSASRKTemplate, srkHandle)
	under := tpm2.AuthHandle{Handle: parent.Handle, Name: parent.Name, Auth: tpm2.PasswordAuth(nil)}
	in, err := tpm2.Import{
		ParentHandle: under, ObjectPublic: tpm2.New2B(public),
		Duplicate: tpm2.TPM2BPrivate{Buffer: tpm2.Marshal(tpm2.New2B(tpm2.TPMTSensitive{
			SensitiveType: tpm2.TPMAlgRSA,
			Sensitive:     tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgRSA, &tpm2.TPM2BPrivateKeyRSA{Buffer: prime}),
		}))},
		Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
	}.Execute(a.device)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tpm2.Load{ParentHandle: under, InPrivate: in.OutPrivate, InPublic: tpm2.New2B(public)}.Execute(a.device)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(a.device) //nolint:errcheck // the TPM ends with its test
	a.evict(t, tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}, akHandle)
	return tpm2.NamedHandle{Handle: akHandle, Name: loaded.Name}
}

// Forge puts a key into evidence whose private part its maker has, with the
// attributes of the paravisor's, and signs with it what the machine's TPM
// quoted.
func (a *Azure) Forge(t testing.TB, in Input, key *rsa.PrivateKey) []byte {
	t.Helper()
	e, err := evidence.Decode(bytes.Clone(in.Evidence))
	if err != nil {
		t.Fatal(err)
	}
	public := AKTemplate()
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
	digest := sha256.Sum256(e.TPM.Quote)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	e.TPM.AKPublic = tpm2.Marshal(public)
	e.TPM.Signature = tpm2.Marshal(tpm2.TPMTSignature{
		SigAlg: tpm2.TPMAlgRSASSA,
		Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
			Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signature},
		}),
	})
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Activate opens a credential as the machine's TPM does, under the paravisor's
// keys. Errors are the TPM's.
func (a *Azure) Activate(ch attest.Channel, blob, encryptedSecret []byte) (attest.Digest, error) {
	ek, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(a.device)
	if err != nil {
		return attest.Digest{}, err
	}
	defer tpm2.FlushContext{FlushHandle: ek.ObjectHandle}.Execute(a.device) //nolint:errcheck // the TPM ends with its test
	var answer attest.Digest
	err = attester.WithPolicySession(a.device, func(device transport.TPM, session tpm2.TPMISHPolicy) error {
		_, err := tpm2.PolicySecret{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, PolicySession: session,
		}.Execute(device)
		return err
	}, func(session tpm2.Session) error {
		opened, err := tpm2.ActivateCredential{
			ActivateHandle: tpm2.AuthHandle{Handle: a.key.Handle, Name: a.key.Name, Auth: tpm2.PasswordAuth(nil)},
			KeyHandle:      tpm2.AuthHandle{Handle: ek.ObjectHandle, Name: ek.Name, Auth: session},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: encryptedSecret},
		}.Execute(a.device)
		if err == nil {
			answer = ch.ActivationAnswer(opened.CertInfo.Buffer, a.key.Name.Buffer)
		}
		return err
	})
	return answer, err
}

// Accept has a policy accept this paravisor on its processor.
func (a *Azure) Accept(p *verifier.Policy) {
	p.TrustAnchors = nil
	if a.SNP != nil {
		p.SNP, p.Azure = a.SNP.Policy(), &verifier.AzurePolicy{SNP: [][48]byte{{0xaa}}}
		return
	}
	p.TDX, p.Azure = a.TDX.Policy(), &verifier.AzurePolicy{TDX: []tdx.Measurement{a.TDX.Report.MRTD}}
}
