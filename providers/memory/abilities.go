package memory

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"io"

	"github.com/toolshed-cloud/shed/providers"
)

// Console answers the one line that a machine here prints.
func (p *Provider) Console(ctx context.Context, id providers.MachineID, follow bool) (io.ReadCloser, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.machines[id]; !ok {
		return nil, notFound(id)
	}
	text := bytes.NewReader(p.consoles[id])
	if !follow {
		return io.NopCloser(text), nil
	}
	return io.NopCloser(io.MultiReader(text, untilDone{ctx})), nil
}

// untilDone reads nothing and ends with its context.
type untilDone struct {
	ctx context.Context //nolint:containedctx // a read takes none
}

func (r untilDone) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, io.EOF
}

// snapshot remembers whose it is after its machine is gone.
type snapshot struct {
	providers.Snapshot
	installation providers.InstallationID
}

// Snapshot copies at once.
func (p *Provider) Snapshot(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) (out providers.Snapshot, err error) {
	err = p.call(ctx, CallSnapshot, func() error {
		if id == "" {
			return providers.Errorf(providers.CodeInvalid, "snapshot is empty")
		}
		if there, ok := p.snapshots[id]; ok {
			if there.Machine != machine {
				return providers.Errorf(providers.CodeConflict, "snapshot %s is of another machine", id)
			}
			out = there.Snapshot
			return nil
		}
		m, ok := p.machines[machine]
		if !ok {
			return notFound(machine)
		}
		out = providers.Snapshot{ID: id, Machine: machine, Bytes: dataDisk(m).Bytes, CreatedAt: p.now().UTC(), Complete: true}
		p.snapshots[id] = snapshot{out, m.Installation}
		return nil
	})
	return out, err
}

// Restore changes nothing that anybody could see: these disks hold nothing.
func (p *Provider) Restore(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) error {
	return p.call(ctx, CallRestore, func() error {
		m, ok := p.machines[machine]
		if !ok {
			return notFound(machine)
		}
		there, ok := p.snapshots[id]
		switch {
		case !ok:
			return providers.Errorf(providers.CodeNotFound, "snapshot %s is not here", id)
		case there.Machine != machine:
			return providers.Errorf(providers.CodeConflict, "snapshot %s is of another machine", id)
		case m.Power == providers.PowerOn:
			return providers.Errorf(providers.CodeConflict, "machine %s is on", machine)
		}
		return nil
	})
}

// DeleteSnapshot forgets at once.
func (p *Provider) DeleteSnapshot(ctx context.Context, id providers.SnapshotID) error {
	return p.call(ctx, CallDeleteSnapshot, func() error {
		delete(p.snapshots, id)
		return nil
	})
}

// AttachData moves a kept disk.
func (p *Provider) AttachData(ctx context.Context, machine, from providers.MachineID) error {
	return p.call(ctx, CallAttachData, func() error {
		m, ok := p.machines[machine]
		if !ok {
			return notFound(machine)
		}
		data := dataDisk(m)
		attached := string(from) + "/kept"
		if data.ID == attached {
			return nil
		}
		kept, ok := p.kept[from]
		switch {
		case !ok:
			return providers.Errorf(providers.CodeNotFound, "no data disk is kept of machine %s", from)
		case kept.installation != m.Installation:
			return providers.Errorf(providers.CodeConflict, "the disk of machine %s belongs to another installation", from)
		case m.Power == providers.PowerOn:
			return providers.Errorf(providers.CodeConflict, "machine %s is on", machine)
		}
		data.ID, data.Bytes = attached, kept.bytes
		delete(p.kept, from)
		return nil
	})
}

// EndorsementKey answers a key that is made of the machine's id: these machines
// have no TPM.
func (p *Provider) EndorsementKey(ctx context.Context, id providers.MachineID) (key []byte, err error) {
	err = p.call(ctx, CallEndorsementKey, func() error {
		if _, ok := p.machines[id]; !ok {
			return notFound(id)
		}
		if p.trouble.hidden(id, p.now()) {
			return providers.Errorf(providers.CodeUnavailable, "machine %s is not to be seen yet", id)
		}
		seed := sha512.Sum384([]byte("shed/memory/endorsement-key\x00" + id))
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), seed[:])
		if err != nil {
			return providers.Errorf(providers.CodeInternal, "making an endorsement key: %s", err)
		}
		if key, err = x509.MarshalPKIXPublicKey(private.Public()); err != nil {
			return providers.Errorf(providers.CodeInternal, "making an endorsement key: %s", err)
		}
		return nil
	})
	return key, err
}

// leftovers are what is kept of machines that may be gone. The caller holds
// p.mu.
func (p *Provider) leftovers(installation providers.InstallationID) []providers.Resource {
	var out []providers.Resource
	for id, d := range p.kept {
		if d.installation == installation {
			out = append(out, providers.Resource{Kind: providers.ResourceDataDisk, ID: string(id) + "/kept", Machine: id, Bytes: d.bytes})
		}
	}
	for id, d := range p.half {
		if d.installation == installation {
			out = append(out, providers.Resource{Kind: providers.ResourceDataDisk, ID: string(id) + "/data", Machine: id, Bytes: d.bytes})
		}
	}
	for id, s := range p.snapshots {
		if s.installation == installation {
			out = append(out, providers.Resource{Kind: providers.ResourceSnapshot, ID: string(id), Machine: s.Machine, Bytes: s.Bytes})
		}
	}
	return out
}

// Watch tells of every change, but for those that come faster than they are
// heard.
func (p *Provider) Watch(ctx context.Context, installation providers.InstallationID, changed func(providers.MachineID)) error {
	p.hints.Watch(ctx, installation, changed)
	return nil
}

// changed tells who watches.
func (p *Provider) changed(m *providers.Machine) { p.hints.Tell(m.Installation, m.ID) }
