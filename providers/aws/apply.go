package aws

import (
	"context"
	"maps"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// Apply grows the data volume and mends what somebody else has changed. The
// generation is written last: what came to a halt before is done again.
func (p *Provider) Apply(ctx context.Context, change providers.Change) (providers.Machine, error) {
	s, release, err := p.enter(change.Machine)
	if err != nil {
		return providers.Machine{}, err
	}
	defer release()
	f, err := p.find(ctx, s, change.Machine)
	if err != nil {
		return providers.Machine{}, err
	}
	want := f.wanted()
	generation, _ := strconv.ParseUint(want[tagGeneration], 10, 64)
	bytes, _ := strconv.ParseInt(want[tagDataBytes], 10, 64)
	switch {
	case change.Generation < generation:
		return providers.Machine{}, providers.Errorf(providers.CodeConflict, "generation %d is older than %d", change.Generation, generation)
	case change.DataBytes != 0 && change.DataBytes < bytes:
		return providers.Machine{}, providers.Errorf(providers.CodeInvalid, "data_bytes is %d, and the disk has %d: it only grows", change.DataBytes, bytes)
	case change.DataBytes > maxData:
		return providers.Machine{}, providers.Errorf(providers.CodeInvalid, "data_bytes is %d, want at most %d", change.DataBytes, int64(maxData))
	}
	if err := s.grow(ctx, f, change.DataBytes); err != nil {
		return providers.Machine{}, err
	}
	if err := s.mend(ctx, f); err != nil {
		return providers.Machine{}, err
	}
	want[tagGeneration] = strconv.FormatUint(change.Generation, 10)
	want[tagDataBytes] = strconv.FormatInt(max(bytes, change.DataBytes), 10)
	if err := s.tag(ctx, want, f.ids()...); err != nil {
		return providers.Machine{}, err
	}
	f.retag(want)
	return s.observe(f), nil
}

// ids are the names of everything that is tagged.
func (f *found) ids() []string {
	var out []string
	for _, r := range f.resources() {
		out = append(out, r.ID)
	}
	return out
}

// retag is what tagging has made of it.
func (f *found) retag(t tags) {
	over := func(list []types.Tag) []types.Tag {
		all := tagsOf(list)
		maps.Copy(all, t)
		return all.list()
	}
	for i := range f.instances {
		f.instances[i].Tags = over(f.instances[i].Tags)
	}
	for i := range f.volumes {
		f.volumes[i].Tags = over(f.volumes[i].Tags)
	}
	for i := range f.nics {
		f.nics[i].TagSet = over(f.nics[i].TagSet)
	}
	for i := range f.addresses {
		f.addresses[i].Tags = over(f.addresses[i].Tags)
	}
}

func (s *site) grow(ctx context.Context, f *found, bytes int64) error {
	disk := f.disk()
	if disk == nil || gibOf(bytes) <= aws.ToInt32(disk.Size) {
		return nil
	}
	_, err := s.ec2.ModifyVolume(ctx, &ec2.ModifyVolumeInput{VolumeId: disk.VolumeId, Size: aws.Int32(gibOf(bytes))})
	if err != nil {
		return refusal.From("growing the data volume", err, refusal.Repeatable)
	}
	disk.Size = aws.Int32(gibOf(bytes))
	return nil
}

// mend sets again what is not a tag.
func (s *site) mend(ctx context.Context, f *found) error {
	i := &f.instances[0]
	if !metadataAsWanted(*i) {
		_, err := s.ec2.ModifyInstanceMetadataOptions(ctx, &ec2.ModifyInstanceMetadataOptionsInput{
			InstanceId: i.InstanceId, HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1),
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
		})
		if err != nil {
			return refusal.From("asking for tokens at the instance's metadata", err, refusal.Repeatable)
		}
		i.MetadataOptions = &types.InstanceMetadataOptionsResponse{HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1)}
	}
	for n := range i.BlockDeviceMappings {
		m := &i.BlockDeviceMappings[n]
		if m.Ebs == nil || aws.ToString(m.DeviceName) != dataDevice || !aws.ToBool(m.Ebs.DeleteOnTermination) {
			continue
		}
		if err := s.keepVolume(ctx, aws.ToString(i.InstanceId)); err != nil {
			return err
		}
		m.Ebs.DeleteOnTermination = aws.Bool(false)
	}
	return s.reachable(ctx, f)
}

// keepVolume sees to it that the data volume is not deleted with the instance.
func (s *site) keepVolume(ctx context.Context, instance string) error {
	_, err := s.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{
		InstanceId: aws.String(instance),
		BlockDeviceMappings: []types.InstanceBlockDeviceMappingSpecification{{
			DeviceName: aws.String(dataDevice), Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: aws.Bool(false)},
		}},
	})
	return refusal.From("keeping the data volume", err, refusal.Repeatable)
}
