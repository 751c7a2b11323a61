// Package memory is a fake cloud, for tests and simulations: its machines are
// entries of a map and boot at once.
//
// Invariants: nothing outside the process is touched; it keeps to the contract
// as the shared suite checks it; and every failure is one that was asked for,
// by its settings or by whoever injects it, at the moment it was asked for.
package memory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Name is what this provider is called.
const Name = "memory"

// Call names a call of the contract for Fail.
type Call string

// The calls that can be made to fail.
const (
	CallConfigure   Call = "Configure"
	CallOfferings   Call = "Offerings"
	CallEnsureImage Call = "EnsureImage"
	CallCreate      Call = "Create"
	CallGet         Call = "Get"
	CallList        Call = "List"
	CallSetPower    Call = "SetPower"
	CallApply       Call = "Apply"
	CallDelete      Call = "Delete"

	CallConsole        Call = "Console"
	CallSnapshot       Call = "Snapshot"
	CallRestore        Call = "Restore"
	CallDeleteSnapshot Call = "DeleteSnapshot"
	CallAttachData     Call = "AttachData"
	CallEndorsementKey Call = "EndorsementKey"
)

// Fault makes one call fail.
type Fault struct {
	// Err is what the call answers.
	Err error
	// After says that the call did its work first, as when a cloud accepted
	// it and the answer was lost.
	After bool
}

// LostAnswer is a call that was accepted and whose answer never came.
func LostAnswer() Fault {
	return Fault{After: true, Err: providers.Errorf(providers.CodeOutcomeUnknown, "the answer was lost")}
}

// Provider is a cloud in memory. The zero value is not ready: use New.
type Provider struct {
	now   func() time.Time
	hints sdk.Hints

	mu sync.Mutex
	// mu guards the fields below. settings are nil before Configure.
	settings *settings
	bucket   bucket
	trouble  trouble
	machines map[providers.MachineID]*providers.Machine
	kept     map[providers.MachineID]disk
	// half are the disks of machines that were half made or half deleted.
	half      map[providers.MachineID]disk
	snapshots map[providers.SnapshotID]snapshot
	images    map[attest.ReleaseDigest]attest.Digest
	consoles  map[providers.MachineID][]byte
	faults    map[Call][]Fault
	counts    map[Call]int
}

// disk is a data disk that is kept of a machine that is gone.
type disk struct {
	installation providers.InstallationID
	bytes        int64
}

var (
	_ providers.Provider     = (*Provider)(nil)
	_ providers.Consoler     = (*Provider)(nil)
	_ providers.Snapshotter  = (*Provider)(nil)
	_ providers.DataAttacher = (*Provider)(nil)
	_ providers.Watcher      = (*Provider)(nil)
	_ providers.Endorser     = (*Provider)(nil)
)

// New answers an empty cloud.
func New(now func() time.Time) *Provider {
	return &Provider{
		now:       now,
		machines:  map[providers.MachineID]*providers.Machine{},
		kept:      map[providers.MachineID]disk{},
		half:      map[providers.MachineID]disk{},
		snapshots: map[providers.SnapshotID]snapshot{},
		images:    map[attest.ReleaseDigest]attest.Digest{},
		consoles:  map[providers.MachineID][]byte{},
		faults:    map[Call][]Fault{},
		counts:    map[Call]int{},
	}
}

// Fail makes the next calls of a kind fail, one fault each, in order.
func (p *Provider) Fail(call Call, faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[call] = append(p.faults[call], faults...)
}

// Calls answers how often a call was made.
func (p *Provider) Calls(call Call) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[call]
}

// Crash makes a machine that is on end without having been asked to. The error
// is CodeNotFound where there is none.
func (p *Provider) Crash(id providers.MachineID, reason string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.machines[id]
	if !ok {
		return notFound(id)
	}
	m.Power, m.Reason = providers.PowerCrashed, reason
	p.changed(m)
	return nil
}

// Drift makes a machine look as if somebody else had changed it. The error is
// CodeNotFound where there is none.
func (p *Provider) Drift(id providers.MachineID, what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.machines[id]
	if !ok {
		return notFound(id)
	}
	m.Drift = what
	p.changed(m)
	return nil
}

// Forget takes a machine away behind the control plane's back.
func (p *Provider) Forget(id providers.MachineID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.machines, id)
}

// Put makes a machine appear, or another in its place, behind the control
// plane's back.
func (p *Provider) Put(m providers.Machine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.machines[m.ID] = &m
}

// Machines are those that there are, without a call that is counted.
func (p *Provider) Machines() map[providers.MachineID]providers.Machine {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[providers.MachineID]providers.Machine, len(p.machines))
	for id, m := range p.machines {
		all[id] = p.observe(m)
	}
	return all
}

// ForgetImages takes every image away.
func (p *Provider) ForgetImages() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.images)
}

// call runs do under the lock, unless something is wrong with the cloud.
func (p *Provider) call(ctx context.Context, call Call, do func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", providers.Errorf(providers.CodeUnavailable, "calling %s", call), err)
	}
	if err := p.slow(ctx, call); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[call]++
	if call == CallConfigure {
		return p.fault(call, do)
	}
	if p.settings == nil {
		return &providers.Error{Code: providers.CodeUnavailable,
			Message: "the provider is not configured"}
	}
	if err := p.refusal(); err != nil {
		return err
	}
	if call == CallCreate {
		if wait := p.bucket.take(p.now()); wait > 0 {
			return throttled(wait)
		}
	}
	return p.fault(call, do)
}

// fault runs do with the next fault there is for the call. The caller holds
// p.mu.
func (p *Provider) fault(call Call, do func() error) error {
	faults := p.faults[call]
	if len(faults) == 0 {
		return do()
	}
	p.faults[call] = faults[1:]
	if !faults[0].After {
		return faults[0].Err
	}
	return errors.Join(faults[0].Err, do())
}

// Describe is what Info answers.
func Describe() providers.Info {
	return providers.Info{
		Name:            Name,
		Version:         "test",
		ContractVersion: providers.ContractVersion,
		Capabilities: []providers.Capability{
			providers.CapabilityConsole, providers.CapabilitySnapshot, providers.CapabilityAttachData, providers.CapabilityWatch,
			providers.CapabilityEndorse,
		},
		ConfigSchema: []byte(Schema),
		Notes:        []string{"for tests: machines are entries in memory"},
	}
}

// Info says that this is the provider for tests.
func (p *Provider) Info(context.Context) (providers.Info, error) { return Describe(), nil }

// Configure takes what kind of cloud this is; an empty object is one without
// limits.
func (p *Provider) Configure(ctx context.Context, raw []byte) error {
	return p.call(ctx, CallConfigure, func() error {
		parsed, err := parseSettings(raw)
		if err != nil {
			return err
		}
		p.settings = &parsed
		p.bucket.set(parsed, p.now())
		return nil
	})
}

// Offerings answers each size in each region.
func (p *Provider) Offerings(ctx context.Context) (out []providers.Offering, err error) {
	err = p.call(ctx, CallOfferings, func() error {
		for _, r := range p.settings.Regions {
			for _, size := range p.settings.Sizes {
				out = append(out, p.offering(r, size))
			}
		}
		return nil
	})
	return out, err
}

// EnsureImage reads the file and checks it; it keeps no copy.
func (p *Provider) EnsureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	return p.call(ctx, CallEnsureImage, func() error {
		if known, ok := p.images[image.Release]; ok && known != image.SHA256 {
			return providers.Errorf(providers.CodeConflict, "release %s has another image here", image.Release)
		}
		b, err := os.ReadFile(image.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return providers.Errorf(providers.CodeInvalid, "image: %s", err)
		}
		if err != nil {
			return providers.Errorf(providers.CodeInternal, "reading the image: %s", err)
		}
		if int64(len(b)) != image.Bytes || attest.Sum(b) != image.SHA256 {
			return providers.Errorf(providers.CodeInvalid, "image is not the one that was announced")
		}
		p.images[image.Release] = image.SHA256
		if progress != nil {
			progress(image.Bytes, image.Bytes)
		}
		return nil
	})
}

// Create makes a machine that is on at once.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (out providers.Machine, err error) {
	if err := p.hang(ctx); err != nil {
		return providers.Machine{}, err
	}
	err = p.call(ctx, CallCreate, func() error {
		out, err = p.create(req)
		return err
	})
	if err != nil {
		return providers.Machine{}, err
	}
	return out, nil
}

// create does Create's work. The caller holds p.mu.
func (p *Provider) create(req providers.CreateRequest) (providers.Machine, error) {
	place, err := p.check(req)
	if err != nil {
		return providers.Machine{}, err
	}
	if m, ok := p.machines[req.Machine]; ok {
		return p.observe(m), sdk.Same(*m, req)
	}
	if _, kept := p.kept[req.Machine]; kept {
		return providers.Machine{}, providers.Errorf(providers.CodeConflict, "a data disk is kept of machine %s", req.Machine)
	}
	if _, ok := p.images[req.Spec.Release]; !ok {
		return providers.Machine{}, providers.Errorf(providers.CodeInvalid, "the image of release %s is not here", req.Spec.Release)
	}
	if err := p.room(place); err != nil {
		return providers.Machine{}, err
	}
	if p.trouble.partial {
		p.trouble.partial = false
		p.half[req.Machine] = disk{req.Installation, req.Spec.DataBytes}
		return providers.Machine{}, providers.Errorf(providers.CodeInternal, "making the machine came to a halt")
	}
	delete(p.half, req.Machine)
	m := &providers.Machine{
		ID:           req.Machine,
		Installation: req.Installation,
		SpecHash:     req.Spec.Hash(),
		Release:      req.Spec.Release,
		Generation:   req.Generation,
		Region:       place.region.Name,
		Size:         place.size.Name,
		Power:        providers.PowerOn,
		Endpoint:     fmt.Sprintf("memory:%s", req.Machine),
		Resources: []providers.Resource{
			{Kind: providers.ResourceMachine, ID: string(req.Machine), Machine: req.Machine},
			{Kind: providers.ResourceDataDisk, ID: string(req.Machine) + "/data", Machine: req.Machine, Bytes: req.Spec.DataBytes},
		},
		CreatedAt: p.now().UTC(),
	}
	p.machines[req.Machine] = m
	p.consoles[req.Machine] = []byte("memory: machine is on\n")
	p.trouble.made(req.Machine, p.now())
	p.changed(m)
	return p.observe(m), nil
}

// check answers where a machine is to be made.
func (p *Provider) check(req providers.CreateRequest) (place, error) {
	switch {
	case req.Machine == "":
		return place{}, providers.Errorf(providers.CodeInvalid, "machine is empty")
	case req.Installation == "":
		return place{}, providers.Errorf(providers.CodeInvalid, "installation is empty")
	case req.Spec.DataBytes <= 0:
		return place{}, providers.Errorf(providers.CodeInvalid, "data_bytes is %d", req.Spec.DataBytes)
	case len(req.Spec.Config) == 0:
		return place{}, providers.Errorf(providers.CodeInvalid, "config is empty")
	}
	return p.settings.place(req.Spec.Region, req.Spec.Size)
}

// observe is a copy that the caller may keep. The caller holds p.mu.
func (p *Provider) observe(m *providers.Machine) providers.Machine {
	out := *m
	out.Resources = slices.Clone(m.Resources)
	return out
}

// Get answers a machine.
func (p *Provider) Get(ctx context.Context, id providers.MachineID) (out providers.Machine, err error) {
	err = p.call(ctx, CallGet, func() error {
		m, ok := p.machines[id]
		if !ok {
			return notFound(id)
		}
		if p.trouble.hidden(id, p.now()) {
			return providers.Errorf(providers.CodeUnavailable, "machine %s was made and is not to be seen yet", id)
		}
		out = p.observe(m)
		return nil
	})
	return out, err
}

// List answers two machines a page, so that callers meet pages.
func (p *Provider) List(ctx context.Context, installation providers.InstallationID, page string) (out providers.Page, err error) {
	const pageMachines = 2
	err = p.call(ctx, CallList, func() error {
		var ids []providers.MachineID
		for id, m := range p.machines {
			if m.Installation == installation && string(id) > page && !p.trouble.hidden(id, p.now()) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		for i, id := range ids {
			if i == pageMachines {
				out.Next = string(ids[i-1])
				return nil
			}
			out.Resources = append(out.Resources, p.machines[id].Resources...)
		}
		out.Resources = append(out.Resources, p.leftovers(installation)...)
		return nil
	})
	return out, err
}

// SetPower switches at once.
func (p *Provider) SetPower(ctx context.Context, id providers.MachineID, on bool) error {
	return p.call(ctx, CallSetPower, func() error {
		m, ok := p.machines[id]
		if !ok {
			return notFound(id)
		}
		m.Power, m.Reason = providers.PowerOff, ""
		if on {
			m.Power = providers.PowerOn
		}
		p.changed(m)
		return nil
	})
}

// Apply changes at once.
func (p *Provider) Apply(ctx context.Context, change providers.Change) (out providers.Machine, err error) {
	err = p.call(ctx, CallApply, func() error {
		m, ok := p.machines[change.Machine]
		if !ok {
			return notFound(change.Machine)
		}
		data := dataDisk(m)
		if err := sdk.CheckChange(*m, data.Bytes, change); err != nil {
			return err
		}
		data.Bytes = max(data.Bytes, change.DataBytes)
		m.Generation, m.Drift = change.Generation, ""
		p.changed(m)
		out = p.observe(m)
		return nil
	})
	if err != nil {
		return providers.Machine{}, err
	}
	return out, nil
}

// dataDisk is the one that every machine has.
func dataDisk(m *providers.Machine) *providers.Resource {
	for i := range m.Resources {
		if m.Resources[i].Kind == providers.ResourceDataDisk {
			return &m.Resources[i]
		}
	}
	// A machine that Put made may lack it.
	m.Resources = append(m.Resources, providers.Resource{Kind: providers.ResourceDataDisk, ID: string(m.ID) + "/data", Machine: m.ID})
	return &m.Resources[len(m.Resources)-1]
}

// Delete destroys at once.
func (p *Provider) Delete(ctx context.Context, id providers.MachineID, keepData bool) error {
	return p.call(ctx, CallDelete, func() error {
		m, ok := p.machines[id]
		delete(p.half, id)
		if ok && p.trouble.partialDelete {
			p.trouble.partialDelete = false
			p.half[id] = disk{m.Installation, dataDisk(m).Bytes}
			delete(p.machines, id)
			return providers.Errorf(providers.CodeInternal, "deleting the machine came to a halt")
		}
		switch {
		case ok && keepData:
			p.kept[id] = disk{m.Installation, dataDisk(m).Bytes}
		case !keepData:
			delete(p.kept, id)
		}
		delete(p.machines, id)
		delete(p.consoles, id)
		if ok {
			p.changed(m)
		}
		return nil
	})
}

// Close does nothing.
func (p *Provider) Close() error { return nil }

func notFound(id providers.MachineID) error {
	return providers.Errorf(providers.CodeNotFound, "machine %s is not here", id)
}
