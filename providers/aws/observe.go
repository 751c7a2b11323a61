package aws

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
)

// port is where a machine listens.
const port = "443"

const gib = 1 << 30

// observe is the machine as it looks.
func (s *site) observe(f *found) providers.Machine {
	i := f.instances[0]
	want := f.wanted()
	m := providers.Machine{
		ID:           f.id,
		Installation: providers.InstallationID(want[tagInstallation]),
		Region:       s.settings.Region,
		Size:         string(i.InstanceType),
		CreatedAt:    aws.ToTime(i.LaunchTime).UTC(),
		Endpoint:     s.endpoint(f),
		Resources:    f.resources(),
		Drift:        strings.Join(s.drift(f), "; "),
	}
	// What is no digest is drift, and stays zero.
	_ = m.SpecHash.UnmarshalText([]byte(want[tagSpec]))
	_ = m.Release.UnmarshalText([]byte(want[tagRelease]))
	m.Generation, _ = strconv.ParseUint(want[tagGeneration], 10, 64)
	m.Power, m.Reason = power(i)
	// EC2's launch time is that of the last start; the volume that it starts
	// from is as old as the machine.
	for _, v := range f.volumes {
		if system(v) {
			m.CreatedAt = aws.ToTime(v.CreateTime).UTC()
		}
	}
	return m
}

// wanted are the tags that all of the machine's resources should carry: those
// of the instance, and what it has lost as the others have it.
func (f *found) wanted() tags {
	out := tags{}
	sources := []tags{tagsOf(f.instances[0].Tags)}
	for _, v := range f.volumes {
		sources = append(sources, tagsOf(v.Tags))
	}
	for _, n := range f.nics {
		sources = append(sources, tagsOf(n.TagSet))
	}
	for _, a := range f.addresses {
		sources = append(sources, tagsOf(a.Tags))
	}
	out[tagMachine] = string(f.id)
	for _, key := range append([]string{tagGeneration, tagDataBytes, tagName}, lasting...) {
		for _, source := range sources {
			if out[key] == "" {
				out[key] = source[key]
			}
		}
	}
	return out
}

// power reads the state of an instance.
func power(i types.Instance) (providers.Power, string) {
	reason := aws.ToString(i.StateTransitionReason)
	if i.StateReason != nil {
		reason = aws.ToString(i.StateReason.Message)
	}
	switch i.State.Name {
	case types.InstanceStateNameRunning:
		return providers.PowerOn, ""
	case types.InstanceStateNameStopped:
		if tagsOf(i.Tags)[tagPower] == powerOff {
			return providers.PowerOff, ""
		}
		if reason == "" {
			reason = "the instance stopped"
		}
		return providers.PowerCrashed, reason
	case types.InstanceStateNameShuttingDown:
		return providers.PowerPending, "the instance is being terminated: " + reason
	}
	return providers.PowerPending, ""
}

// endpoint is where the machine is reached: its address is kept while it is off.
func (s *site) endpoint(f *found) string {
	if s.settings.Addresses == addressesPrivate {
		if ip := aws.ToString(f.instances[0].PrivateIpAddress); ip != "" {
			return net.JoinHostPort(ip, port)
		}
		return ""
	}
	for _, a := range f.addresses {
		if a.AssociationId != nil {
			return net.JoinHostPort(aws.ToString(a.PublicIp), port)
		}
	}
	return ""
}

func (f *found) resources() []providers.Resource {
	var out []providers.Resource
	for _, i := range f.instances {
		out = append(out, instanceResource(i))
	}
	for _, v := range f.volumes {
		out = append(out, volumeResource(v))
	}
	for _, n := range f.nics {
		out = append(out, nicResource(n))
	}
	for _, a := range f.addresses {
		out = append(out, addressResource(a))
	}
	for i := range out {
		out[i].Machine = f.id
	}
	slices.SortFunc(out, func(a, b providers.Resource) int { return strings.Compare(string(a.Kind)+a.ID, string(b.Kind)+b.ID) })
	return out
}

func instanceResource(i types.Instance) providers.Resource {
	return providers.Resource{Kind: providers.ResourceMachine, ID: aws.ToString(i.InstanceId), Machine: owner(i.Tags)}
}

func volumeResource(v types.Volume) providers.Resource {
	kind := providers.ResourceDataDisk
	if system(v) {
		kind = providers.ResourceDisk
	}
	return providers.Resource{Kind: kind, ID: aws.ToString(v.VolumeId), Machine: owner(v.Tags), Bytes: int64(aws.ToInt32(v.Size)) * gib}
}

func nicResource(n types.NetworkInterface) providers.Resource {
	return providers.Resource{Kind: providers.ResourceNIC, ID: aws.ToString(n.NetworkInterfaceId), Machine: owner(n.TagSet)}
}

func addressResource(a types.Address) providers.Resource {
	return providers.Resource{Kind: providers.ResourceAddress, ID: aws.ToString(a.AllocationId), Machine: owner(a.Tags)}
}

func owner(list []types.Tag) providers.MachineID {
	return providers.MachineID(tagsOf(list)[tagMachine])
}

// drift says what somebody else has changed.
func (s *site) drift(f *found) []string {
	want := f.wanted()
	var out []string
	check := func(what string, have tags, keys ...string) {
		for _, key := range keys {
			if have[key] != want[key] {
				out = append(out, fmt.Sprintf("tag %s of %s is %q, not %q", key, what, have[key], want[key]))
			}
		}
	}
	i := f.instances[0]
	check("the instance", tagsOf(i.Tags), append([]string{tagGeneration}, lasting...)...)
	for _, v := range f.volumes {
		check("volume "+aws.ToString(v.VolumeId), tagsOf(v.Tags), lasting...)
	}
	for _, n := range f.nics {
		check("network interface "+aws.ToString(n.NetworkInterfaceId), tagsOf(n.TagSet), lasting...)
	}
	for _, a := range f.addresses {
		check("address "+aws.ToString(a.AllocationId), tagsOf(a.Tags), lasting...)
	}
	if !metadataAsWanted(i) {
		out = append(out, "the instance's metadata is to be had without a token, or from further away")
	}
	if s.settings.Addresses == addressesElastic && i.State.Name == types.InstanceStateNameRunning && s.endpoint(f) == "" {
		out = append(out, "the machine's address is not attached")
	}
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil && aws.ToString(m.DeviceName) == dataDevice && aws.ToBool(m.Ebs.DeleteOnTermination) {
			out = append(out, "the data volume would be deleted with the instance")
		}
	}
	return out
}

// metadataAsWanted reports whether an instance's metadata is to be had by IMDSv2
// alone, and from the machine itself.
func metadataAsWanted(i types.Instance) bool {
	o := i.MetadataOptions
	return o != nil && o.HttpTokens == types.HttpTokensStateRequired && aws.ToInt32(o.HttpPutResponseHopLimit) == 1
}
