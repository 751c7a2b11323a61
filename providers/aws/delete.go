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

const (
	// endTick and endFor bound how an instance that is ending is waited for.
	endTick = time.Second
	endFor  = 30 * time.Second
)

// Delete ends the instance, and removes what is left of the machine.
func (p *Provider) Delete(ctx context.Context, id providers.MachineID, keepData bool) error {
	s, release, err := p.enter(id)
	if err != nil {
		return err
	}
	defer release()
	f, err := s.look(ctx, id)
	if err != nil {
		return err
	}
	if f.nothing() {
		if len(f.dead) == 0 && p.unseen(id) {
			return providers.Errorf(providers.CodeAborted, "machine %s was made and is not to be seen yet", id)
		}
		return nil
	}
	if keepData {
		if err := s.keep(ctx, f); err != nil {
			return err
		}
	}
	if f, err = s.end(ctx, f); err != nil {
		return err
	}
	installation, err := s.remove(ctx, f, keepData)
	if err != nil {
		return err
	}
	p.seen(id)
	return s.lastOut(ctx, installation)
}

// keep marks the data volume before anything is ended.
func (s *site) keep(ctx context.Context, f *found) error {
	disk := f.disk()
	if disk == nil {
		return nil
	}
	if tagsOf(disk.Tags)[tagKept] == "" {
		if err := s.tag(ctx, tags{tagKept: "true"}, aws.ToString(disk.VolumeId)); err != nil {
			return err
		}
	}
	for _, i := range f.instances {
		for _, m := range i.BlockDeviceMappings {
			if m.Ebs != nil && aws.ToString(m.DeviceName) == dataDevice && aws.ToBool(m.Ebs.DeleteOnTermination) {
				return s.keepVolume(ctx, aws.ToString(i.InstanceId))
			}
		}
	}
	return nil
}

// end terminates, waits as long as the call may, and answers what is left.
func (s *site) end(ctx context.Context, f *found) (*found, error) {
	if len(f.instances) == 0 {
		return f, nil
	}
	var ids []string
	for _, i := range f.instances {
		ids = append(ids, aws.ToString(i.InstanceId))
	}
	if _, err := s.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}); err != nil {
		return nil, refusal.From("ending the instance", err, refusal.Repeatable)
	}
	ctx, cancel := context.WithTimeout(ctx, endFor)
	defer cancel()
	tick := time.NewTicker(endTick)
	defer tick.Stop()
	for {
		left, err := s.look(ctx, f.id)
		if err != nil {
			return nil, err
		}
		if len(left.instances) == 0 {
			return left, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, providers.Errorf(providers.CodeAborted, "machine %s is being deleted", f.id)
		}
	}
}

// remove deletes what outlives an instance, and answers whose the machine was.
func (s *site) remove(ctx context.Context, f *found, keepData bool) (providers.InstallationID, error) {
	var installation providers.InstallationID
	of := func(list []types.Tag) {
		if i := tagsOf(list)[tagInstallation]; i != "" {
			installation = providers.InstallationID(i)
		}
	}
	for _, i := range f.dead {
		of(i.Tags)
	}
	for _, a := range f.addresses {
		of(a.Tags)
		if err := s.release(ctx, a); err != nil {
			return "", err
		}
	}
	for _, n := range f.nics {
		of(n.TagSet)
		_, err := s.ec2.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: n.NetworkInterfaceId})
		if err != nil && !refusal.Is(err, "InvalidNetworkInterfaceID.NotFound") {
			return "", refusal.From("deleting the network interface", err, refusal.Repeatable)
		}
	}
	kept := f.disk()
	for i := range f.volumes {
		v := &f.volumes[i]
		of(v.Tags)
		if keepData && v == kept {
			continue
		}
		if err := s.deleteVolume(ctx, aws.ToString(v.VolumeId)); err != nil {
			return "", err
		}
	}
	return installation, nil
}

func (s *site) deleteVolume(ctx context.Context, id string) error {
	_, err := s.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: aws.String(id)})
	if refusal.Is(err, "InvalidVolume.NotFound") {
		return nil
	}
	return refusal.From("deleting the volume", err, refusal.Repeatable)
}
