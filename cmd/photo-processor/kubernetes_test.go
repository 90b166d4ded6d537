package main_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
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

// Where pods have the certificates of authorities, and their own.
const (
	authoritiesPath = "/etc/photo-processor/authorities"
	temporalPath    = "/etc/photo-processor/temporal"
)

// requireMountedFiles checks that the pod has the files that configuration.yaml
// names, also those in comments.
func requireMountedFiles(t *testing.T, all map[string]manifest, p pod) {
	t.Helper()
	c := p.Containers[0]
	volumes := map[string]string{} // mount path to the ConfigMap's or Secret's name
	for _, mount := range c.VolumeMounts {
		for _, volume := range p.Volumes {
			if volume.Name == mount.Name {
				volumes[mount.MountPath] = volume.ConfigMap.Name + volume.Secret.SecretName
				require.True(t, mount.ReadOnly || volumes[mount.MountPath] == "")
				require.Equal(t, volume.Secret.SecretName != "", volume.Secret.Optional, "most clusters have none")
			}
		}
		require.Contains(t, volumes, mount.MountPath)
	}
	text, err := os.ReadFile(repository + "/docs/kubernetes/configuration.yaml")
	require.NoError(t, err)
	files := regexp.MustCompile(`/etc/photo-processor/[a-z./]+`).FindAllString(string(text), -1)
	require.Len(t, files, 4)
	for _, file := range files {
		directory, name := path.Split(file)
		switch directory = path.Clean(directory); directory {
		case authoritiesPath:
			require.Contains(t, all["ConfigMap "+volumes[directory]].Data, name)
		case temporalPath:
			if c.Name != "migrate" { // it has no connection to Temporal
				require.Contains(t, string(text), `Secret "`+volumes[directory]+`" of type kubernetes.io/tls`)
				require.Contains(t, []string{"tls.crt", "tls.key"}, name)
			}
		default:
			require.Fail(t, file)
		}
	}
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

// TestKubernetes compares docs/kubernetes with the configuration, its documentation,
// the Dockerfile, and the manifests with each other.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	page, err := os.ReadFile(repository + "/docs/configuration.md")
	require.NoError(t, err)
	dockerfile, err := os.ReadFile(repository + "/Dockerfile")
	require.NoError(t, err)
	ours := map[string]bool{}
	params, err := env.GetFieldParams(&config.Config{})
	require.NoError(t, err)
	for _, p := range params {
		ours[p.Key] = true
	}
	for _, name := range []string{"photo-processor-api", "photo-processor-worker"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, all, "Deployment "+name)
			deployment := all["Deployment "+name]
			labels, pod := deployment.Spec.Template.Metadata.Labels, deployment.Spec.Template.Spec
			require.Len(t, pod.Containers, 1)
			c := pod.Containers[0]
			variables := podEnvironment(t, all, c)
			for variable := range variables {
				switch {
				case strings.HasPrefix(variable, "AWS_"):
				case strings.HasPrefix(variable, "TEMPORAL_"):
					require.Contains(t, string(page), "| `"+variable+"` |")
				default:
					require.True(t, ours[variable], "%s is no variable of photo-processor", variable)
				}
			}
			cfg := parsePodEnvironment(t, variables)

			require.NotEmpty(t, labels)
			require.Equal(t, labels, deployment.selected(t))
			require.Equal(t, labels, all["PodDisruptionBudget "+name].selected(t))
			require.Len(t, pod.TopologySpreadConstraints, 2)
			for _, constraint := range pod.TopologySpreadConstraints {
				require.Equal(t, labels, parseSelector(t, constraint.LabelSelector).MatchLabels)
			}
			requireMountedFiles(t, all, pod)
			require.Contains(t, string(dockerfile), "--uid "+strconv.Itoa(pod.SecurityContext.RunAsUser)+" ")
			grace := time.Duration(pod.TerminationGracePeriodSeconds-c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
			require.Greater(t, grace, cfg.ShutdownTimeout+5*time.Second, "and some time to report what was given up")

			ports := map[string]string{}
			for _, p := range c.Ports {
				ports[p.Name] = strconv.Itoa(p.ContainerPort)
			}
			require.Equal(t, "0.0.0.0:"+ports["metrics"], cfg.MetricsAddr)
			for want, p := range map[string]probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
				require.Equal(t, want, strings.TrimSuffix(p.HTTPGet.Path, "?for=reads"))
				require.Contains(t, ports, p.HTTPGet.Port)
				require.Greater(t, p.TimeoutSeconds, 3, "/readyz takes up to 3 seconds")
			}
			if name == "photo-processor-api" {
				require.Equal(t, "0.0.0.0:"+ports["http"], cfg.HTTPAddr)
				require.NotEmpty(t, cfg.APITokens)
				service := all["Service "+name]
				require.Equal(t, labels, service.selected(t))
				require.Equal(t, "http", service.Spec.Ports[0].TargetPort)
				return
			}
			require.NotContains(t, variables, "API_TOKEN", "a worker has no use for it")
			require.Equal(t, cfg.SourceCacheDir, c.VolumeMounts[0].MountPath)
			require.GreaterOrEqual(t, quantity(t, pod.Volumes[0].EmptyDir.SizeLimit), cfg.SourceCacheDisk)
			require.GreaterOrEqual(t, quantity(t, c.Resources.Requests["ephemeral-storage"]), cfg.SourceCacheDisk)
			require.GreaterOrEqual(t, quantity(t, c.Resources.Limits["ephemeral-storage"]), quantity(t, pod.Volumes[0].EmptyDir.SizeLimit))
			require.Equal(t, c.Resources.Limits["memory"], c.Resources.Requests["memory"])
			require.GreaterOrEqual(t, quantity(t, c.Resources.Limits["memory"]), int64(cfg.RenderConcurrency)*cfg.RenderMaxMemory+512<<20)
			require.Equal(t, strconv.Itoa(cfg.RenderConcurrency), c.Resources.Requests["cpu"])

			require.Nil(t, deployment.Spec.Replicas, "else each apply would undo what KEDA has done")
			scaled := all["ScaledObject "+name]
			require.Equal(t, name, scaled.Spec.ScaleTargetRef.Name)
			trigger := scaled.Spec.Triggers[0].Metadata
			require.Equal(t, cfg.TaskQueue, trigger["taskQueue"])
			require.Equal(t, variables["TEMPORAL_ADDRESS"], trigger["endpoint"])
			require.Equal(t, variables["TEMPORAL_NAMESPACE"], trigger["namespace"])
		})
	}
}

// TestKubernetesMigrates checks that the Job runs the same image with the same
// database as the API.
func TestKubernetesMigrates(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	job := all["Job photo-processor-migrate"].Spec.Template.Spec
	c := job.Containers[0]
	require.Equal(t, []string{"migrate"}, c.Args)
	for _, name := range []string{"photo-processor-api", "photo-processor-worker"} {
		deployment := all["Deployment "+name].Spec.Template.Spec
		require.Equal(t, deployment.Containers[0].Image, c.Image)
		require.Equal(t, deployment.SecurityContext, job.SecurityContext)
	}
	parsePodEnvironment(t, podEnvironment(t, all, c))
	requireMountedFiles(t, all, job)
}

// TestKubernetesNetworkPolicies checks that the pods of each kind may reach what
// their settings name, workers no private address, and that the policies open no
// port that nobody listens on.
func TestKubernetesNetworkPolicies(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	public, private := []string{"192.0.2.1", "2001:db8::1"}, []string{
		"10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.255.1", "192.168.1.1", "0.0.0.1", "fd00::1", "fe80::1", "64:ff9b::a00:1",
	}
	for name, want := range map[string]struct {
		ingress       []string
		temporal      bool
		internetPorts []string
	}{
		"Deployment photo-processor-api":    {[]string{"metrics", "http"}, true, []string{"443"}},
		"Deployment photo-processor-worker": {[]string{"metrics"}, true, []string{"80", "443"}},
		"Job photo-processor-migrate":       {[]string{"metrics"}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, all, name)
			template := all[name].Spec.Template
			var ingress, egress []policyRule
			for _, m := range all {
				if m.Kind == "NetworkPolicy" && parseSelector(t, m.Spec.PodSelector).matches(t, template.Metadata.Labels) {
					require.Equal(t, []string{"Ingress", "Egress"}, m.Spec.PolicyTypes)
					ingress, egress = append(ingress, m.Spec.Ingress...), append(egress, m.Spec.Egress...)
				}
			}
			var open []string
			for _, rule := range ingress {
				for _, p := range rule.Ports {
					open = append(open, p.Port)
					require.Equal(t, p.Port == "metrics", len(rule.From) == 1 && rule.From[0].namespace() == "monitoring")
				}
			}
			require.ElementsMatch(t, want.ingress, open)

			namespaces := map[string]string{} // "namespace:port"
			var internet []string
			for _, rule := range egress {
				require.NotEmpty(t, rule.To)
				require.NotEmpty(t, rule.Ports)
				for _, p := range rule.Ports {
					for _, to := range rule.To {
						if to.namespace() != "" {
							namespaces[to.namespace()] = p.Port
						}
					}
					if rule.To[0].IPBlock.CIDR.IsValid() {
						internet = append(internet, p.Port)
					}
				}
				for _, address := range private {
					require.False(t, slices.ContainsFunc(rule.To, func(p policyPeer) bool { return p.contains(netip.MustParseAddr(address)) }), address)
				}
				for _, address := range public {
					require.Equal(t, rule.To[0].IPBlock.CIDR.IsValid(),
						slices.ContainsFunc(rule.To, func(p policyPeer) bool { return p.contains(netip.MustParseAddr(address)) }), address)
				}
			}
			require.ElementsMatch(t, want.internetPorts, internet)

			variables := podEnvironment(t, all, template.Spec.Containers[0])
			database, err := url.Parse(variables["DATABASE_URL"])
			require.NoError(t, err)
			reached := map[string]string{"kube-system": "53", strings.Split(database.Hostname(), ".")[1]: database.Port()}
			if want.temporal {
				host, port, err := net.SplitHostPort(variables["TEMPORAL_ADDRESS"])
				require.NoError(t, err)
				reached[strings.Split(host, ".")[1]] = port
			}
			require.Equal(t, reached, namespaces)
		})
	}
}

// TestKubernetesMonitoring checks that the pods' metrics get the names of jobs that
// prometheus.yml uses, and so the alerts.
func TestKubernetesMonitoring(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	text, err := os.ReadFile(repository + "/observability/prometheus.yml")
	require.NoError(t, err)
	monitor := all["PodMonitor photo-processor"]
	require.Len(t, monitor.Spec.PodMetricsEndpoints, 1)
	endpoint := monitor.Spec.PodMetricsEndpoints[0]
	require.Equal(t, "job", endpoint.Relabelings[0].TargetLabel)
	require.Equal(t, []string{"__meta_kubernetes_pod_container_name"}, endpoint.Relabelings[0].SourceLabels)
	for _, name := range []string{"photo-processor-api", "photo-processor-worker"} {
		template := all["Deployment "+name].Spec.Template
		require.True(t, parseSelector(t, monitor.Spec.Selector).matches(t, template.Metadata.Labels))
		c := template.Spec.Containers[0]
		require.Regexp(t, `job_name: `+c.Name+`\b`, string(text), "alerts and dashboard use this name")
		require.True(t, slices.ContainsFunc(c.Ports, func(p port) bool { return p.Name == endpoint.Port }))
	}
}
