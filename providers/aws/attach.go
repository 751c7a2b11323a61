package aws

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// AttachData gives a machine that is off the volume that was kept of another.
// Its own is deleted once the other is tagged as its: until then the same again
// goes on.
func (p *Provider) AttachData(ctx context.Context, machine, from providers.MachineID) error {
	if err := checkMachine(from); err != nil {
		return err
	}
	s, release, err := p.enter(machine)
	if err != nil {
		return err
	}
	defer release()
	f, err := p.find(ctx, s, machine)
	if err != nil {
		return err
	}
	if taken := f.from(from); taken != nil {
		return s.take(ctx, f, taken)
	}
	kept, err := s.kept(ctx, from)
	if err != nil {
		return err
	}
	i := f.instances[0]
	switch {
	case kept == nil:
		return providers.Errorf(providers.CodeNotFound, "no data disk is kept of machine %s", from)
	case tagsOf(kept.Tags)[tagInstallation] != f.wanted()[tagInstallation]:
		return providers.Errorf(providers.CodeConflict, "the disk of machine %s belongs to another installation", from)
	case i.State.Name != types.InstanceStateNameStopped:
		return providers.Errorf(providers.CodeConflict, "machine %s is not off", machine)
	case aws.ToString(kept.AvailabilityZone) != aws.ToString(i.Placement.AvailabilityZone):
		e := providers.Errorf(providers.CodeConflict, "the disk is in %s, and the machine in %s", aws.ToString(kept.AvailabilityZone), aws.ToString(i.Placement.AvailabilityZone))
		e.Hint = "make the machine in the disk's zone: put its subnet first in the settings"
		return e
	}
	t := f.wanted()
	t[tagDataBytes], t[tagFrom] = tagsOf(kept.Tags)[tagDataBytes], string(from)
	if err := s.tag(ctx, t, aws.ToString(kept.VolumeId)); err != nil {
		return err
	}
	if err := s.untag(ctx, aws.ToString(kept.VolumeId), tagKept); err != nil {
		return err
	}
	return s.take(ctx, f, kept)
}

// from is the volume that was another machine's and is this one's now.
func (f *found) from(other providers.MachineID) *types.Volume {
	for _, v := range f.data() {
		if tagsOf(v.Tags)[tagFrom] == string(other) {
			return v
		}
	}
	return nil
}

// kept is the volume that is kept of a machine; nil where there is none.
func (s *site) kept(ctx context.Context, of providers.MachineID) (*types.Volume, error) {
	volumes, err := s.volumes(ctx, []types.Filter{having(tagMachine, string(of)), having(tagKept, "true")})
	if err != nil {
		return nil, err
	}
	for i := range volumes {
		if volumes[i].State == types.VolumeStateAvailable {
			return &volumes[i], nil
		}
	}
	return nil, nil
}

// take attaches a volume, in place of any other.
func (s *site) take(ctx context.Context, f *found, v *types.Volume) error {
	id := aws.ToString(v.VolumeId)
	if tagsOf(v.Tags)[tagKept] != "" {
		if err := s.untag(ctx, id, tagKept); err != nil {
			return err
		}
	}
	for _, other := range f.data() {
		if aws.ToString(other.VolumeId) == id {
			continue
		}
		if err := s.detach(ctx, other); err != nil {
			return err
		}
		if err := s.deleteVolume(ctx, aws.ToString(other.VolumeId)); err != nil {
			return err
		}
	}
	if len(v.Attachments) > 0 {
		return nil
	}
	if err := s.attachVolume(ctx, f, id); err != nil {
		return err
	}
	// The instance tells, as the volume does, how large its data is.
	return s.tag(ctx, tags{tagDataBytes: tagsOf(v.Tags)[tagDataBytes]}, aws.ToString(f.instances[0].InstanceId))
}

const (
	// freeTick and freeFor bound how a volume that is being detached is waited
	// for.
	freeTick = time.Second
	freeFor  = 30 * time.Second
)

func (s *site) detach(ctx context.Context, v *types.Volume) error {
	if len(v.Attachments) == 0 {
		return nil
	}
	_, err := s.ec2.DetachVolume(ctx, &ec2.DetachVolumeInput{
		VolumeId: v.VolumeId, InstanceId: v.Attachments[0].InstanceId, Device: v.Attachments[0].Device,
	})
	if err != nil && !refusal.Is(err, "IncorrectState") {
		return refusal.From("detaching the data volume", err, refusal.Repeatable)
	}
	return s.free(ctx, aws.ToString(v.VolumeId))
}

// free waits until a volume can be attached.
func (s *site) free(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, freeFor)
	defer cancel()
	tick := time.NewTicker(freeTick)
	defer tick.Stop()
	for {
		out, err := s.volumes(ctx, []types.Filter{{Name: aws.String("volume-id"), Values: []string{id}}})
		if err != nil {
			return err
		}
		if len(out) == 1 && out[0].State == types.VolumeStateAvailable {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return providers.Errorf(providers.CodeAborted, "volume %s is not free yet", id)
		}
	}
}

func (s *site) attachVolume(ctx context.Context, f *found, id string) error {
	if known := f.volume(id); known != nil && len(known.Attachments) > 0 {
		return nil
	}
	if err := s.free(ctx, id); err != nil {
		return err
	}
	_, err := s.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{InstanceId: f.instances[0].InstanceId, VolumeId: aws.String(id), Device: aws.String(dataDevice)})
	return refusal.From("attaching the data volume", err, refusal.Repeatable)
}
