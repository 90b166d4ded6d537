package main_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/photo-processor/photo-processor/internal/config"
	"github.com/photo-processor/photo-processor/internal/devstack/devstacktest"
)

// manifest has the fields that the tests read. `make check-kubernetes` checks all
// fields with Kubernetes' own types.
type manifest struct {
	Kind       string            `yaml:"kind"`
	Metadata   named             `yaml:"metadata"`
	Data       map[string]string `yaml:"data"`       // of a ConfigMap
	StringData map[string]string `yaml:"stringData"` // of a Secret
	Spec       struct {
		Replicas *int      `yaml:"replicas"`
		Selector yaml.Node `yaml:"selector"`
		Template struct {
			Metadata struct {
				Labels map[string]string `yaml:"labels"`
			} `yaml:"metadata"`
			Spec pod `yaml:"spec"`
		} `yaml:"template"`
		Ports               []port       `yaml:"ports"`       // of a Service
		PodSelector         yaml.Node    `yaml:"podSelector"` // of a NetworkPolicy
		PolicyTypes         []string     `yaml:"policyTypes"`
		Ingress             []policyRule `yaml:"ingress"`
		Egress              []policyRule `yaml:"egress"`
		PodMetricsEndpoints []struct {
			Port        string `yaml:"port"`
			Relabelings []struct {
				SourceLabels []string `yaml:"sourceLabels"`
				TargetLabel  string   `yaml:"targetLabel"`
			} `yaml:"relabelings"`
		} `yaml:"podMetricsEndpoints"`
		ScaleTargetRef named `yaml:"scaleTargetRef"`
		Triggers       []struct {
			Metadata map[string]string `yaml:"metadata"`
		} `yaml:"triggers"`
	} `yaml:"spec"`
}

// policyRule is a rule of a NetworkPolicy.
type policyRule struct {
	From  []policyPeer `yaml:"from"`
	To    []policyPeer `yaml:"to"`
	Ports []struct {
		Port string `yaml:"port"`
	} `yaml:"ports"`
}

type policyPeer struct {
	NamespaceSelector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	} `yaml:"namespaceSelector"`
	IPBlock struct {
		CIDR   netip.Prefix   `yaml:"cidr"`
		Except []netip.Prefix `yaml:"except"`
	} `yaml:"ipBlock"`
}

func (p policyPeer) namespace() string {
	return p.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
}

func (p policyPeer) contains(address netip.Addr) bool {
	return p.IPBlock.CIDR.IsValid() && p.IPBlock.CIDR.Contains(address) &&
		!slices.ContainsFunc(p.IPBlock.Except, func(excepted netip.Prefix) bool { return excepted.Contains(address) })
}

type named struct {
	Name string `yaml:"name"`
}

type pod struct {
	TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsUser int `yaml:"runAsUser"`
	} `yaml:"securityContext"`
	Containers                []container `yaml:"containers"`
	TopologySpreadConstraints []struct {
		TopologyKey   string    `yaml:"topologyKey"`
		LabelSelector yaml.Node `yaml:"labelSelector"`
	} `yaml:"topologySpreadConstraints"`
	Volumes []struct {
		Name     string `yaml:"name"`
		EmptyDir struct {
			SizeLimit string `yaml:"sizeLimit"`
		} `yaml:"emptyDir"`
		ConfigMap named `yaml:"configMap"`
		Secret    struct {
			SecretName string `yaml:"secretName"`
			Optional   bool   `yaml:"optional"`
		} `yaml:"secret"`
	} `yaml:"volumes"`
}

type container struct {
	Name    string   `yaml:"name"`
	Image   string   `yaml:"image"`
	Args    []string `yaml:"args"`
	EnvFrom []struct {
		ConfigMapRef named `yaml:"configMapRef"`
		SecretRef    named `yaml:"secretRef"`
	} `yaml:"envFrom"`
	Env []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	Ports          []port `yaml:"ports"`
	LivenessProbe  probe  `yaml:"livenessProbe"`
	ReadinessProbe probe  `yaml:"readinessProbe"`
	Lifecycle      struct {
		PreStop struct {
			Sleep struct {
				Seconds int `yaml:"seconds"`
			} `yaml:"sleep"`
		} `yaml:"preStop"`
	} `yaml:"lifecycle"`
	Resources    struct{ Requests, Limits map[string]string } `yaml:"resources"`
	VolumeMounts []struct {
		Name      string `yaml:"name"`
		ReadOnly  bool   `yaml:"readOnly"`
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type port struct {
	Name          string `yaml:"name"`
	ContainerPort int    `yaml:"containerPort"`
	TargetPort    string `yaml:"targetPort"`
}

type probe struct {
	HTTPGet struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
	TimeoutSeconds int `yaml:"timeoutSeconds"`
}

// manifests returns the manifests in docs/kubernetes by kind and name.
func manifests(t *testing.T) map[string]manifest {
	t.Helper()
	all := map[string]manifest{}
	files, err := filepath.Glob(repository + "/docs/kubernetes/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		documents := yaml.NewDecoder(bytes.NewReader(text))
		for {
			var m manifest
			err := documents.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, file)
			require.NotEmpty(t, m.Metadata.Name, file)
			require.NotContains(t, all, m.Kind+" "+m.Metadata.Name)
			all[m.Kind+" "+m.Metadata.Name] = m
		}
	}
	return all
}

// selected returns the labels that a Deployment, a Service or a
// PodDisruptionBudget selects.
func (m manifest) selected(t *testing.T) map[string]string {
	t.Helper()
	var labels map[string]string
	if m.Kind == "Service" {
		require.NoError(t, m.Spec.Selector.Decode(&labels))
		return labels
	}
	return parseSelector(t, m.Spec.Selector).MatchLabels
}

type labelSelector struct {
	MatchLabels      map[string]string `yaml:"matchLabels"`
	MatchExpressions []struct {
		Key, Operator string
		Values        []string
	} `yaml:"matchExpressions"`
}

func parseSelector(t *testing.T, node yaml.Node) (selector labelSelector) {
	t.Helper()
	require.NoError(t, node.Decode(&selector))
	return selector
}

func (s labelSelector) matches(t *testing.T, labels map[string]string) bool {
	t.Helper()
	for name, value := range s.MatchLabels {
		if labels[name] != value {
			return false
		}
	}
	for _, expression := range s.MatchExpressions {
		require.Equal(t, "In", expression.Operator)
		if !slices.Contains(expression.Values, labels[expression.Key]) {
			return false
		}
	}
	return true
}

// quantity reads a number of MiB or GiB.
func quantity(t *testing.T, text string) int64 {
	t.Helper()
	number, unit := text[:len(text)-2], map[string]int64{"Mi": 1 << 20, "Gi": 1 << 30}[text[len(text)-2:]]
	value, err := strconv.ParseInt(number, 10, 64)
	require.NoError(t, err)
	require.NotZero(t, unit, text)
	return value * unit
}

// podEnvironment returns the variables of the deployment's container.
func podEnvironment(t *testing.T, all map[string]manifest, c container) map[string]string {
	t.Helper()
	variables := map[string]string{}
	add := func(name, value string) {
		require.NotContains(t, variables, name, "it is set twice")
		variables[name] = value
	}
	for _, from := range c.EnvFrom {
		for _, source := range []string{"ConfigMap " + from.ConfigMapRef.Name, "Secret " + from.SecretRef.Name} {
			if strings.HasSuffix(source, " ") {
				continue
			}
			require.Contains(t, all, source)
			for name, value := range all[source].Data {
				add(name, value)
			}
			for name, value := range all[source].StringData {
				add(name, value)
			}
		}
	}
	for _, variable := range c.Env {
		add(variable.Name, variable.Value)
	}
	return variables
}

// parsePodEnvironment parses the variables. It checks that the placeholders in
// secrets are rejected, and replaces them.
func parsePodEnvironment(t *testing.T, variables map[string]string) config.Config {
	t.Helper()
	variables = maps.Clone(variables)
	mounted := "sslrootcert=" + authoritiesPath + "/postgresql.pem"
	require.Contains(t, variables["DATABASE_URL"], mounted)
	variables["DATABASE_URL"] = strings.ReplaceAll(variables["DATABASE_URL"], mounted, "sslrootcert="+devstacktest.NewAuthority(t).File)
	replaced := maps.Clone(variables)
	for name, value := range variables {
		if name == "API_TOKEN" || name == "DATABASE_URL" {
			_, err := config.Parse(variables)
			require.ErrorContains(t, err, name+": ")
			require.ErrorContains(t, err, "placeholder")
			replaced[name] = strings.ReplaceAll(value, "change-me", "changed")
		}
	}
	cfg, err := config.Parse(replaced)
	require.NoError(t, err)
	return cfg
}
