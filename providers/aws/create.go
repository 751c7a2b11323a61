package aws

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

const (
	// maxConfig is as much user data as EC2 takes:
	// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html
	maxConfig = 16 << 10
	// maxData is the largest volume of the kind that data is on.
	maxData    = 64 << 40
	dataDevice = "/dev/sdf"
)

func checkCreate(req providers.CreateRequest) error {
	invalid := func(format string, args ...any) error {
		return providers.Errorf(providers.CodeInvalid, format, args...)
	}
	switch {
	case req.Machine == "":
		return invalid("machine is empty")
	case !name.MatchString(string(req.Installation)):
		return invalid("installation %q is no installation's id", req.Installation)
	case req.Spec.DataBytes <= 0 || req.Spec.DataBytes > maxData:
		return invalid("data_bytes is %d, want 1 to %d", req.Spec.DataBytes, int64(maxData))
	case len(req.Spec.Config) == 0:
		return invalid("config is empty")
	case len(req.Spec.Config) > maxConfig:
		return invalid("config has %d bytes, and EC2 takes %d", len(req.Spec.Config), maxConfig)
	case req.Spec.Release.IsZero():
		return invalid("release is missing")
	}
	return checkMachine(req.Machine)
}

// Create makes an instance, with a data volume, a network interface and an
// address, or answers the one that is there.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	if err := checkCreate(req); err != nil {
		return providers.Machine{}, err
	}
	s, release, err := p.enter(req.Machine)
	if err != nil {
		return providers.Machine{}, err
	}
	defer release()
	size, err := s.settings.place(req.Spec)
	if err != nil {
		return providers.Machine{}, err
	}
	f, err := s.look(ctx, req.Machine)
	if err != nil {
		return providers.Machine{}, err
	}
	if !f.nothing() {
		p.seen(req.Machine)
	}
	if len(f.instances) > 0 {
		return s.again(ctx, f, req)
	}
	if f.nothing() && p.unseen(req.Machine) {
		return providers.Machine{}, providers.Errorf(providers.CodeAborted, "machine %s was made and is not to be seen yet", req.Machine)
	}
	if err := s.clear(ctx, f); err != nil {
		return providers.Machine{}, err
	}
	return p.create(ctx, s, f, req, size)
}

// again answers for a machine that is there.
func (s *site) again(ctx context.Context, f *found, req providers.CreateRequest) (providers.Machine, error) {
	want := f.wanted()
	switch {
	case want[tagInstallation] != string(req.Installation):
		return providers.Machine{}, providers.Errorf(providers.CodeConflict, "machine %s belongs to another installation", req.Machine)
	case want[tagSpec] != req.Spec.Hash().String():
		return providers.Machine{}, providers.Errorf(providers.CodeConflict, "machine %s was made from another spec", req.Machine)
	case f.instances[0].State.Name == types.InstanceStateNameShuttingDown:
		return providers.Machine{}, providers.Errorf(providers.CodeAborted, "machine %s is being deleted", req.Machine)
	}
	if err := s.single(ctx, f); err != nil {
		return providers.Machine{}, err
	}
	if err := s.reachable(ctx, f); err != nil {
		return providers.Machine{}, err
	}
	return s.observe(f), nil
}

// single ends all but the oldest instance: a second one can come of an answer
// that was lost in one zone and a retry that found room in another.
func (s *site) single(ctx context.Context, f *found) error {
	if len(f.instances) == 1 {
		return nil
	}
	var more []string
	for _, i := range f.instances[1:] {
		more = append(more, aws.ToString(i.InstanceId))
	}
	if _, err := s.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: more}); err != nil {
		return refusal.From("ending a second instance", err, refusal.Repeatable)
	}
	return providers.Errorf(providers.CodeAborted, "machine %s had %d instances: all but the oldest are being ended", f.id, len(f.instances))
}

// reachable gives a machine its address where it has none.
func (s *site) reachable(ctx context.Context, f *found) error {
	if s.settings.Addresses == addressesPrivate || s.endpoint(f) != "" || len(f.instances[0].NetworkInterfaces) == 0 {
		return nil
	}
	a, made, err := s.address(ctx, f, f.wanted())
	if err != nil {
		return err
	}
	if made {
		f.addresses = append(f.addresses, a)
	}
	for i := range f.addresses {
		if aws.ToString(f.addresses[i].AllocationId) == aws.ToString(a.AllocationId) {
			return s.attach(ctx, &f.addresses[i], aws.ToString(f.instances[0].NetworkInterfaces[0].NetworkInterfaceId))
		}
	}
	return nil
}

// launchFailures are the reasons with which EC2 ends an instance that never
// started, whose data volume so has never been used:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
var launchFailures = []string{"Server.InternalError", "Server.InsufficientInstanceCapacity", "Client.InternalError", "Client.VolumeLimitExceeded", "Client.InvalidSnapshot.NotFound"}

func neverStarted(i types.Instance) bool {
	if i.StateReason == nil {
		return false
	}
	for _, code := range launchFailures {
		if aws.ToString(i.StateReason.Code) == code {
			return true
		}
	}
	return false
}

// clear makes room for a machine's instance. A volume is deleted only where it
// cannot have been used: any other is somebody's data.
func (s *site) clear(ctx context.Context, f *found) error {
	unused := len(f.dead) > 0
	for _, i := range f.dead {
		unused = unused && neverStarted(i)
	}
	for _, v := range f.volumes {
		id := aws.ToString(v.VolumeId)
		switch {
		case tagsOf(v.Tags)[tagKept] != "":
			return providers.Errorf(providers.CodeConflict, "data volume %s is kept of machine %s", id, f.id)
		case !unused:
			e := providers.Errorf(providers.CodeConflict, "data volume %s is there of machine %s, whose instance is gone", id, f.id)
			e.Hint = "delete the machine, keeping the disk, and attach that to another one"
			return e
		}
		if err := s.deleteVolume(ctx, id); err != nil {
			return err
		}
	}
	f.volumes = nil
	return nil
}

// create makes what is not there.
func (p *Provider) create(ctx context.Context, s *site, f *found, req providers.CreateRequest, size string) (providers.Machine, error) {
	img, err := s.image(ctx, req.Spec.Release)
	if err != nil {
		return providers.Machine{}, err
	}
	places, err := s.places(ctx)
	if err != nil {
		return providers.Machine{}, err
	}
	group, err := s.group(ctx, req.Installation, places[0].vpc)
	if err != nil {
		return providers.Machine{}, err
	}
	l := launch{req: req, size: size, image: img, group: group, dead: f.dead}
	var made bool
	var a types.Address
	if s.settings.Addresses == addressesElastic {
		if a, made, err = s.address(ctx, f, tagsFor(req)); err != nil {
			return providers.Machine{}, err
		}
		if made {
			p.made(req.Machine)
			f.addresses = append(f.addresses, a)
		}
	}
	i, err := s.run(ctx, l, places)
	if err != nil {
		p.undo(ctx, s, req, err, made, a)
		return providers.Machine{}, err
	}
	p.made(req.Machine)
	f.instances = []types.Instance{*i}
	if err := s.reachable(ctx, f); err != nil {
		return providers.Machine{}, err
	}
	return s.observe(f), nil
}

// undo gives back what was made for an instance that certainly was not.
func (p *Provider) undo(ctx context.Context, s *site, req providers.CreateRequest, err error, made bool, a types.Address) {
	if providers.CodeOf(err) == providers.CodeOutcomeUnknown {
		p.made(req.Machine)
		return
	}
	p.seen(req.Machine)
	// It may have gone with the installation's last machine: ask again next time.
	s.forgetGroup(req.Installation)
	if !made {
		return
	}
	// What cannot be given back now is listed, and Delete finds it.
	if err := s.release(context.WithoutCancel(ctx), a); err != nil {
		p.log.Warn("an address is left of a machine that was refused: " + err.Error())
	}
}
