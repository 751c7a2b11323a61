package aws

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// found is what there is of one machine.
type found struct {
	id        providers.MachineID
	instances []types.Instance
	// dead are instances that ended, which EC2 shows for about an hour.
	dead      []types.Instance
	volumes   []types.Volume
	nics      []types.NetworkInterface
	addresses []types.Address
}

// look asks for everything that carries a machine's tag, and for the instance
// that such things are attached to: a tag that somebody took off is drift, and
// no other machine.
func (s *site) look(ctx context.Context, id providers.MachineID) (*found, error) {
	f := &found{id: id}
	by := []types.Filter{having(tagMachine, string(id))}
	group, gctx := errgroup.WithContext(ctx)
	var instances []types.Instance
	group.Go(func() (err error) { instances, err = s.instances(gctx, by); return err })
	group.Go(func() (err error) { f.volumes, err = s.volumes(gctx, by); return err })
	group.Go(func() (err error) { f.nics, err = s.nics(gctx, by); return err })
	group.Go(func() (err error) { f.addresses, err = s.addresses(gctx, by); return err })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, v := range f.volumes {
		for _, a := range v.Attachments {
			at := aws.ToString(a.InstanceId)
			if slices.ContainsFunc(instances, func(i types.Instance) bool { return aws.ToString(i.InstanceId) == at }) {
				continue
			}
			more, err := s.instances(ctx, []types.Filter{{Name: aws.String("instance-id"), Values: []string{at}}})
			if err != nil {
				return nil, err
			}
			instances = append(instances, more...)
		}
	}
	f.sort(instances)
	return f, s.untagged(ctx, f)
}

// sort parts the living from the dead, the oldest first.
func (f *found) sort(instances []types.Instance) {
	slices.SortFunc(instances, func(a, b types.Instance) int {
		return cmp.Or(aws.ToTime(a.LaunchTime).Compare(aws.ToTime(b.LaunchTime)), cmp.Compare(aws.ToString(a.InstanceId), aws.ToString(b.InstanceId)))
	})
	for _, i := range instances {
		if i.State != nil && i.State.Name == types.InstanceStateNameTerminated {
			f.dead = append(f.dead, i)
		} else {
			f.instances = append(f.instances, i)
		}
	}
	slices.SortFunc(f.volumes, func(a, b types.Volume) int { return cmp.Compare(aws.ToString(a.VolumeId), aws.ToString(b.VolumeId)) })
}

// untagged adds the volumes and network interfaces of the instance that have
// lost the machine's tag.
func (s *site) untagged(ctx context.Context, f *found) error {
	if len(f.instances) == 0 {
		return nil
	}
	i := f.instances[0]
	var volumes, nics []string
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil && f.volume(aws.ToString(m.Ebs.VolumeId)) == nil {
			volumes = append(volumes, aws.ToString(m.Ebs.VolumeId))
		}
	}
	for _, n := range i.NetworkInterfaces {
		id := aws.ToString(n.NetworkInterfaceId)
		if !slices.ContainsFunc(f.nics, func(known types.NetworkInterface) bool { return aws.ToString(known.NetworkInterfaceId) == id }) {
			nics = append(nics, id)
		}
	}
	if len(volumes) > 0 {
		more, err := s.volumes(ctx, []types.Filter{{Name: aws.String("volume-id"), Values: volumes}})
		if err != nil {
			return err
		}
		f.volumes = append(f.volumes, more...)
	}
	if len(nics) > 0 {
		more, err := s.nics(ctx, []types.Filter{{Name: aws.String("network-interface-id"), Values: nics}})
		if err != nil {
			return err
		}
		f.nics = append(f.nics, more...)
	}
	return nil
}

func (f *found) nothing() bool {
	return len(f.instances)+len(f.volumes)+len(f.nics)+len(f.addresses) == 0
}

func (f *found) volume(id string) *types.Volume {
	for i := range f.volumes {
		if aws.ToString(f.volumes[i].VolumeId) == id {
			return &f.volumes[i]
		}
	}
	return nil
}

// data are the volumes that may hold a machine's data: all but the one that it
// starts from, which goes with it.
func (f *found) data() []*types.Volume {
	var out []*types.Volume
	for i := range f.volumes {
		if !system(f.volumes[i]) {
			out = append(out, &f.volumes[i])
		}
	}
	return out
}

// disk is the data volume that the machine has now; nil where there is none.
func (f *found) disk() *types.Volume {
	for _, v := range f.data() {
		if tagsOf(v.Tags)[tagRole] == "" {
			return v
		}
	}
	return nil
}

// system reports whether a volume is one that an instance starts from. Such a
// one goes with its instance, and so is never seen without.
func system(v types.Volume) bool {
	return len(v.Attachments) > 0 && aws.ToString(v.Attachments[0].Device) != dataDevice
}

// perPage is how much is asked for at once.
const perPage = 200

func (s *site) instances(ctx context.Context, by []types.Filter) (out []types.Instance, err error) {
	pages := ec2.NewDescribeInstancesPaginator(s.ec2, &ec2.DescribeInstancesInput{Filters: by, MaxResults: aws.Int32(perPage)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, refusal.From("asking for instances", err, refusal.Repeatable)
		}
		for _, r := range page.Reservations {
			out = append(out, r.Instances...)
		}
	}
	return out, nil
}

func (s *site) volumes(ctx context.Context, by []types.Filter) (out []types.Volume, err error) {
	pages := ec2.NewDescribeVolumesPaginator(s.ec2, &ec2.DescribeVolumesInput{Filters: by, MaxResults: aws.Int32(perPage)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, refusal.From("asking for volumes", err, refusal.Repeatable)
		}
		out = append(out, page.Volumes...)
	}
	return out, nil
}

func (s *site) nics(ctx context.Context, by []types.Filter) (out []types.NetworkInterface, err error) {
	pages := ec2.NewDescribeNetworkInterfacesPaginator(s.ec2, &ec2.DescribeNetworkInterfacesInput{Filters: by, MaxResults: aws.Int32(perPage)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, refusal.From("asking for network interfaces", err, refusal.Repeatable)
		}
		out = append(out, page.NetworkInterfaces...)
	}
	return out, nil
}

func (s *site) addresses(ctx context.Context, by []types.Filter) ([]types.Address, error) {
	out, err := s.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: by})
	if err != nil {
		return nil, refusal.From("asking for addresses", err, refusal.Repeatable)
	}
	return out.Addresses, nil
}
