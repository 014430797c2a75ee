// Serves the schema of the AWS provider, and nothing else: enough for `terraform validate` and for `terraform test` with a mocked provider,
// on a machine that reaches neither AWS nor a provider registry. The schema is read from the JSON file that SCHEMA_FILE names; ../schema.py
// makes it from the published description of hashicorp/aws 6.25.0. Whoever plans or applies for real with it gets an error.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type attribute struct {
	Type     json.RawMessage `json:"type"`
	Required bool            `json:"required"`
	Optional bool            `json:"optional"`
	Computed bool            `json:"computed"`
}

type block struct {
	Attributes map[string]attribute `json:"attributes"`
	Blocks     map[string]struct {
		Nesting string `json:"nesting"`
		Min     int64  `json:"min"`
		Block   block  `json:"block"`
	} `json:"blocks"`
}

type schemas struct {
	Provider  block            `json:"provider"`
	Resources map[string]block `json:"resources"`
	Data      map[string]block `json:"data"`
}

var nestings = map[string]tfprotov6.SchemaNestedBlockNestingMode{
	"list":   tfprotov6.SchemaNestedBlockNestingModeList,
	"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
	"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
}

func (b block) schema() (*tfprotov6.SchemaBlock, error) {
	served := &tfprotov6.SchemaBlock{}
	for name, a := range b.Attributes {
		// The one reader of cty's JSON types that plugins have; deprecated for providers that state their types in Go.
		kind, err := tftypes.ParseJSONType(a.Type) //nolint:staticcheck
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		served.Attributes = append(served.Attributes, &tfprotov6.SchemaAttribute{
			Name: name, Type: kind, Required: a.Required, Optional: a.Optional, Computed: a.Computed,
		})
	}
	for name, nested := range b.Blocks {
		inner, err := nested.Block.schema()
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", name, err)
		}
		nesting, known := nestings[nested.Nesting]
		if !known {
			return nil, fmt.Errorf("block %s: unknown nesting %q", name, nested.Nesting)
		}
		served.BlockTypes = append(served.BlockTypes, &tfprotov6.SchemaNestedBlock{TypeName: name, Block: inner, Nesting: nesting, MinItems: nested.Min})
	}
	return served, nil
}

// Methods that are not here are never called by validate and by mocked tests; a call would end the process.
type server struct {
	tfprotov6.ProviderServer
	answer *tfprotov6.GetProviderSchemaResponse
}

func (s server) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	answer := &tfprotov6.GetMetadataResponse{}
	for name := range s.answer.ResourceSchemas {
		answer.Resources = append(answer.Resources, tfprotov6.ResourceMetadata{TypeName: name})
	}
	for name := range s.answer.DataSourceSchemas {
		answer.DataSources = append(answer.DataSources, tfprotov6.DataSourceMetadata{TypeName: name})
	}
	return answer, nil
}

func (s server) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return s.answer, nil
}

func (s server) GetResourceIdentitySchemas(context.Context, *tfprotov6.GetResourceIdentitySchemasRequest) (*tfprotov6.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov6.GetResourceIdentitySchemasResponse{}, nil
}

func (s server) ValidateProviderConfig(_ context.Context, asked *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: asked.Config}, nil
}

func (s server) ValidateResourceConfig(_ context.Context, asked *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	diagnostics, err := writtenThoughRead(s.answer.ResourceSchemas[asked.TypeName], asked.Config)
	return &tfprotov6.ValidateResourceConfigResponse{Diagnostics: diagnostics}, err
}

func (s server) ValidateDataResourceConfig(_ context.Context, asked *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	diagnostics, err := writtenThoughRead(s.answer.DataSourceSchemas[asked.TypeName], asked.Config)
	return &tfprotov6.ValidateDataResourceConfigResponse{Diagnostics: diagnostics}, err
}

// That nobody writes what AWS answers is for providers to check, not for Terraform.
func writtenThoughRead(schema *tfprotov6.Schema, config *tfprotov6.DynamicValue) ([]*tfprotov6.Diagnostic, error) {
	value, err := config.Unmarshal(schema.ValueType())
	if err != nil {
		return nil, err
	}
	var found []*tfprotov6.Diagnostic
	err = check(schema.Block, value, tftypes.NewAttributePath(), &found)
	return found, err
}

func check(block *tfprotov6.SchemaBlock, value tftypes.Value, at *tftypes.AttributePath, found *[]*tfprotov6.Diagnostic) error {
	if value.IsNull() || !value.IsKnown() {
		return nil
	}
	var fields map[string]tftypes.Value
	if err := value.As(&fields); err != nil {
		return err
	}
	for _, attribute := range block.Attributes {
		if field, there := fields[attribute.Name]; there && !field.IsNull() && !attribute.Optional && !attribute.Required {
			*found = append(*found, &tfprotov6.Diagnostic{
				Severity:  tfprotov6.DiagnosticSeverityError,
				Summary:   "Value for a read-only attribute",
				Detail:    attribute.Name + " is what AWS answers; it cannot be written.",
				Attribute: at.WithAttributeName(attribute.Name),
			})
		}
	}
	for _, nested := range block.BlockTypes {
		field, there := fields[nested.TypeName]
		if !there || field.IsNull() || !field.IsKnown() {
			continue
		}
		where := at.WithAttributeName(nested.TypeName)
		if nested.Nesting == tfprotov6.SchemaNestedBlockNestingModeSingle {
			if err := check(nested.Block, field, where, found); err != nil {
				return err
			}
			continue
		}
		var blocks []tftypes.Value
		if err := field.As(&blocks); err != nil {
			return err
		}
		for _, one := range blocks {
			if err := check(nested.Block, one, where, found); err != nil {
				return err
			}
		}
	}
	return nil
}

// The state of a mocked apply, read again when OpenTofu tears it down.
func (s server) UpgradeResourceState(_ context.Context, asked *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	kind := s.answer.ResourceSchemas[asked.TypeName].ValueType()
	state, err := asked.RawState.Unmarshal(kind)
	if err != nil {
		return nil, err
	}
	value, err := tfprotov6.NewDynamicValue(kind, state)
	return &tfprotov6.UpgradeResourceStateResponse{UpgradedState: &value}, err
}

func (s server) ConfigureProvider(context.Context, *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	return &tfprotov6.ConfigureProviderResponse{Diagnostics: []*tfprotov6.Diagnostic{{
		Severity: tfprotov6.DiagnosticSeverityError,
		Summary:  "This provider serves schemas only",
		Detail:   "It was made for validate and for tests with a mocked provider, and talks to no AWS.",
	}}}, nil
}

func (s server) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func read(path string) (*tfprotov6.GetProviderSchemaResponse, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var found schemas
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	provider, err := found.Provider.schema()
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	answer := &tfprotov6.GetProviderSchemaResponse{
		Provider:          &tfprotov6.Schema{Block: provider},
		ResourceSchemas:   map[string]*tfprotov6.Schema{},
		DataSourceSchemas: map[string]*tfprotov6.Schema{},
	}
	for from, into := range map[*map[string]block]map[string]*tfprotov6.Schema{&found.Resources: answer.ResourceSchemas, &found.Data: answer.DataSourceSchemas} {
		for name, b := range *from {
			served, err := b.schema()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			into[name] = &tfprotov6.Schema{Block: served}
		}
	}
	return answer, nil
}

func main() {
	answer, err := read(os.Getenv("SCHEMA_FILE"))
	if err == nil {
		err = tf6server.Serve("registry.terraform.io/hashicorp/aws", func() tfprotov6.ProviderServer { return server{answer: answer} })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
