package aws

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers"
)

// The tags, which are all that is known of a machine.
const (
	tagInstallation = "shed:installation"
	tagMachine      = "shed:machine"
	tagGeneration   = "shed:generation"
	tagSpec         = "shed:spec"
	tagRelease      = "shed:release"
	// tagDataBytes is the size that was asked for: volumes are whole GiB.
	tagDataBytes = "shed:data-bytes"
	// tagPower is "off" once that was asked for: what is off without it has
	// crashed.
	tagPower = "shed:power"
	// tagKept is on a data volume whose machine was deleted but for it.
	tagKept = "shed:kept"
	// tagFrom is on a data volume that was another machine's.
	tagFrom = "shed:from"
	// tagRole is on a volume that is on its way to be a machine's data, or no
	// longer is.
	tagRole     = "shed:role"
	tagSnapshot = "shed:snapshot"
	// tagImage is the digest of a release's disk.
	tagImage = "shed:image"
	// tagBlocks is how far the blocks of a disk were put.
	tagBlocks = "shed:blocks"
	tagName   = "Name"
)

const (
	powerOff = "off"
	roleNew  = "restoring"
	roleOld  = "replaced"
)

// tags are those of one resource.
type tags map[string]string

func tagsOf(list []types.Tag) tags {
	out := tags{}
	for _, t := range list {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

func (t tags) list() []types.Tag {
	var out []types.Tag
	for _, key := range sortedKeys(t) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(t[key])})
	}
	return out
}

// on are the tags for one kind of resource, as requests that make it take them.
func (t tags) on(kinds ...types.ResourceType) []types.TagSpecification {
	var out []types.TagSpecification
	for _, kind := range kinds {
		out = append(out, types.TagSpecification{ResourceType: kind, Tags: t.list()})
	}
	return out
}

// lasting are the tags that every resource of a machine carries for ever.
var lasting = []string{tagInstallation, tagMachine, tagSpec, tagRelease}

// tagsFor are what a machine's resources are made with.
func tagsFor(req providers.CreateRequest) tags {
	return tags{
		tagInstallation: string(req.Installation),
		tagMachine:      string(req.Machine),
		tagGeneration:   strconv.FormatUint(req.Generation, 10),
		tagSpec:         req.Spec.Hash().String(),
		tagRelease:      req.Spec.Release.String(),
		tagDataBytes:    strconv.FormatInt(req.Spec.DataBytes, 10),
		tagName:         "shed-" + string(req.Machine),
	}
}

// having is a filter for resources with a tag.
func having(tag, value string) types.Filter {
	return types.Filter{Name: aws.String("tag:" + tag), Values: []string{value}}
}

// The tags by which somebody else finds what is a machine's.
const (
	MachineTag      = tagMachine
	InstallationTag = tagInstallation
)
