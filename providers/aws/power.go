package aws

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// SetPower starts or stops the instance. EC2 shuts down cleanly first, and cuts
// the power some minutes later.
func (p *Provider) SetPower(ctx context.Context, id providers.MachineID, on bool) error {
	s, release, err := p.enter(id)
	if err != nil {
		return err
	}
	defer release()
	f, err := p.find(ctx, s, id)
	if err != nil {
		return err
	}
	i := f.instances[0]
	ids := []string{aws.ToString(i.InstanceId)}
	// What was asked for is written down first: off without it is a crash.
	asked := "on"
	if !on {
		asked = powerOff
	}
	if have := tagsOf(i.Tags)[tagPower]; have != asked && (have != "" || !on) {
		if err := s.tag(ctx, tags{tagPower: asked}, ids...); err != nil {
			return err
		}
	}
	switch state := i.State.Name; {
	case state == types.InstanceStateNameShuttingDown:
		return notFound(id)
	case on && (state == types.InstanceStateNameRunning || state == types.InstanceStateNamePending):
		return nil
	case !on && (state == types.InstanceStateNameStopped || state == types.InstanceStateNameStopping):
		return nil
	}
	if on {
		_, err = s.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: ids})
		return refusal.From("starting the instance", err, refusal.Repeatable)
	}
	_, err = s.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: ids})
	return refusal.From("stopping the instance", err, refusal.Repeatable)
}

func (s *site) tag(ctx context.Context, t tags, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := s.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: t.list()})
	return refusal.From("tagging", err, refusal.Repeatable)
}

func (s *site) untag(ctx context.Context, id string, keys ...string) error {
	in := &ec2.DeleteTagsInput{Resources: []string{id}}
	for _, key := range keys {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(key)})
	}
	_, err := s.ec2.DeleteTags(ctx, in)
	return refusal.From("taking tags off", err, refusal.Repeatable)
}
