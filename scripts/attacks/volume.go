package main

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// unmapped stands where device mapper is: what these attacks are about comes
// before it.
type unmapped struct{}

func (unmapped) Make(disk string, _ []byte) (string, error) { return disk, nil }
func (unmapped) Map(disk string, _ []byte) (string, error)  { return disk, nil }
func (unmapped) Unmap() error                               { return nil }

// owned is a claimed machine with its data disk: a real software TPM and the
// agent's own code.
type owned struct {
	tb     testing.TB
	device *swtpmtest.TPM
	tpm    *attester.TPM
	volume *seal.DataVolume
}

// boot starts an image that registers show as such.
func (o *owned) boot(image string) {
	o.device.PowerOff()
	o.device.PowerOn()
	opened, err := attester.Open(o.device)
	if err == nil {
		o.tpm, o.volume.Device = opened, opened
		err = opened.Extend(4, attest.Sum([]byte(image)))
	}
	o.must(err)
}

func (o *owned) must(err error) {
	if err != nil {
		o.tb.Fatal(err)
	}
}

// ownImage is what the machine booted when it was claimed.
const ownImage = "the owner's image"

// claimMachine makes a machine somebody's, as the agent does at its claim.
func claimMachine(tb testing.TB) *owned {
	o := &owned{tb: tb, device: swtpmtest.Start(tb)}
	o.volume = &seal.DataVolume{
		Mapper: unmapped{}, Rand: rand.Reader, Disk: emptyDisk(tb), Epoch: 3,
		Format: func(context.Context, string) error { return nil },
	}
	o.boot(ownImage)
	_, owner, err := ed25519.GenerateKey(rand.Reader)
	o.must(err)
	recovery, err := ecdh.X25519().GenerateKey(rand.Reader)
	o.must(err)
	claim, err := ownership.Sign(owner, ownership.Body{
		AKName: o.tpm.AKName(), Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: [32]byte(recovery.PublicKey().Bytes()),
	})
	o.must(err)
	o.must(seal.Prepare(o.tpm))
	o.must(seal.Commit(o.tpm, claim))
	o.must(o.opens().err)
	return o
}

func emptyDisk(tb testing.TB) string {
	path := filepath.Join(tb.TempDir(), "disk")
	err := os.WriteFile(path, nil, 0o600)
	if err == nil {
		err = os.Truncate(path, 8<<20)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// opens has the machine open its data disk as every boot does.
func (o *owned) opens() outcome {
	state, err := seal.Load(o.tpm)
	if err == nil {
		_, err = o.volume.Open(o.tb.Context(), state)
	}
	return outcome{accepted: err == nil, err: err}
}

// onVolume are the attacks on a claimed machine's data disk, by whoever has the
// disk in hand and boots images of their own beside it.
func onVolume(tb testing.TB) ([]attack, error) {
	o := claimMachine(tb)
	all := append(o.headers(), o.disks(claimMachine(tb).volume.Disk)...)
	return append(all, o.boots()...), nil
}

// attacked opens the disk in a fresh boot as it is, and once more after the
// attack.
func (o *owned) attacked(name string, r reason, do func()) attack {
	o.boot(ownImage)
	good := o.opens()
	o.boot(ownImage)
	do()
	return attack{name: name, reason: r, good: good, bad: o.opens()}
}

// disks put another disk in its place.
func (o *owned) disks(somebodyElses string) []attack {
	own := o.volume.Disk
	defer func() { o.volume.Disk = own }()
	var all []attack
	for name, disk := range map[string]string{
		"a data volume made by somebody else": somebodyElses, "an empty disk in its place": emptyDisk(o.tb),
	} {
		all = append(all, o.attacked(name, reason{kind: seal.ErrForeign}, func() { o.volume.Disk = disk }))
		o.volume.Disk = own
	}
	return all
}

// boots have the owner's disk opened in another state than it was sealed to.
func (o *owned) boots() []attack {
	defer func(epoch uint64) { o.volume.Epoch = epoch }(o.volume.Epoch)
	sealed := reason{kind: seal.ErrSealed}
	extend := func(register uint8) func() {
		return func() { o.must(o.tpm.Extend(register, attest.Digest{1})) }
	}
	return []attack{
		o.attacked("data opened by another image", sealed, func() { o.boot("another image") }),
		o.attacked("data opened after an option ROM", sealed, extend(2)),
		o.attacked("data opened with a command line of the host's", sealed, extend(12)),
		o.attacked("data opened after the claim was measured", sealed, extend(attest.RegisterClaim)),
		o.attacked("data opened by an image of another epoch", sealed, func() { o.volume.Epoch-- }),
	}
}

// headers change what stands on the disk before the encrypted part.
func (o *owned) headers() []attack {
	good := o.readHeader()
	maker := reason{kind: seal.ErrMaker}
	var all []attack
	add := func(name string, r reason, change func(*volumeHeader)) {
		changed := good
		change(&changed)
		all = append(all, o.attacked(name, r, func() { o.writeHeader(changed) }))
		o.writeHeader(good)
	}
	forged := o.forge(good)
	add("a data key that another image sealed", maker, func(h *volumeHeader) { h.Sealed = forged })
	add("another image's data key with the owner's ticket", maker, func(h *volumeHeader) {
		h.Sealed = forged
		h.Sealed.Creation, h.Sealed.Ticket = good.Sealed.Creation, good.Sealed.Ticket
	})
	add("a data key without its ticket", maker, func(h *volumeHeader) { h.Sealed.Ticket = nil })
	add("another recovery wrap", maker, func(h *volumeHeader) { h.Recovery = append([]byte{1}, h.Recovery...) })
	add("other authorizations of the TPM", maker, func(h *volumeHeader) { h.Authorizations = append([]byte{1}, h.Authorizations...) })
	add("a header of another claim", reason{kind: seal.ErrForeign}, func(h *volumeHeader) { h.Claim[0]++ })
	add("a header of another volume", reason{kind: seal.ErrForeign}, func(h *volumeHeader) { h.Volume[0]++ })
	add("a header of an unknown version", reason{kind: attest.ErrMalformed}, func(h *volumeHeader) { h.Version++ })
	return all
}

// forge boots an image of the forger's, which seals a key that it knows under
// the policy that the owner's own key has: every term of it is public.
func (o *owned) forge(h volumeHeader) (sealed sealedKey) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](h.Sealed.Public)
	o.must(err)
	o.boot("the forger's image")
	defer o.boot(ownImage)
	creation, err := tpm2.Unmarshal[tpm2.TPMSCreationData](h.Sealed.Creation)
	o.must(err)
	o.must(o.tpm.Do(func(device transport.TPM) error {
		const storageKey = tpm2.TPMHandle(0x81000101)
		parent, err := tpm2.ReadPublic{ObjectHandle: storageKey}.Execute(device)
		if err != nil {
			return err
		}
		made, err := tpm2.Create{
			ParentHandle: tpm2.AuthHandle{Handle: storageKey, Name: parent.Name, Auth: tpm2.PasswordAuth(nil)},
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: make([]byte, 16)}),
			}},
			InPublic: *public, OutsideInfo: creation.OutsideInfo, CreationPCR: creation.PCRSelect,
		}.Execute(device)
		if err != nil {
			return err
		}
		sealed = sealedKey{
			Public: tpm2.Marshal(made.OutPublic), Private: tpm2.Marshal(made.OutPrivate),
			Creation: made.CreationData.Bytes(), Ticket: tpm2.Marshal(made.CreationTicket),
		}
		return nil
	}))
	return sealed
}
