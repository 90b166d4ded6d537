package main_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/photo-processor/photo-processor/internal/config"
)

// composeSettings returns the names in x-settings of docker-compose.yml.
func composeSettings(t *testing.T) []string {
	t.Helper()
	var file struct {
		Settings map[string]*string `yaml:"x-settings"`
	}
	text, err := os.ReadFile(composeFile)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &file))
	for name, value := range file.Settings {
		require.Nil(t, value, "%s: .env has the defaults", name)
	}
	return slices.Sorted(maps.Keys(file.Settings))
}

// fixedSettings are the settings that docker-compose.yml does not pass on from
// .env or the shell, and why.
var fixedSettings = map[string]string{
	"DATABASE_URL":     "contains the address and the role of the service postgres",
	"HTTP_ADDR":        "API_PORT is published for this address",
	"METRICS_ADDR":     "health checks and prometheus.yml use this address",
	"DATA_DIR":         "the image's, where the volume data is mounted",
	"SOURCE_CACHE_DIR": "is on the volume data",
	"RENDERER_PATH":    "the image's",
	"SHUTDOWN_TIMEOUT": "stop_grace_period must be longer",
}

// TestComposePassesSettings checks that an operator can change each setting of the
// API and of the workers by .env or the shell, and that a setting without a value
// keeps the program's default.
func TestComposePassesSettings(t *testing.T) {
	t.Parallel()
	var settings []string
	params, err := env.GetFieldParams(&config.Config{})
	require.NoError(t, err)
	for _, p := range params {
		settings = append(settings, p.Key)
	}
	for name := range fixedSettings {
		require.Contains(t, settings, name, "it is no setting")
	}
	for _, page := range []string{"operating.md", "configuration.md"} {
		text, err := os.ReadFile(repository + "/docs/" + page)
		require.NoError(t, err)
		settings = append(settings, regexp.MustCompile(`\bOTEL_[A-Z_]+\b`).FindAllString(string(text), -1)...)
	}
	for _, name := range composeSettings(t) {
		require.True(t, slices.Contains(settings, name) || strings.HasPrefix(name, "OTEL_"), "%s is no setting", name)
		require.NotContains(t, fixedSettings, name)
	}

	const value = "0123456789"
	environment := withTestSecrets(t)
	for _, name := range settings {
		environment = append(environment, name+"="+value)
	}
	project, err := loadCompose(t, environment)
	require.NoError(t, err)
	api, worker := project.Services["api"].Environment, project.Services["worker"].Environment
	for _, name := range settings {
		_, fixed := fixedSettings[name]
		passed := 0
		for _, environment := range []types.MappingWithEquals{api, worker} {
			if v := environment[name]; v != nil && *v == value {
				passed++
			}
		}
		switch {
		case fixed:
			require.Zero(t, passed, "%s is not fixed", name)
		case name == "API_TOKEN":
			require.Equal(t, value, *api[name])
			require.NotContains(t, worker, name, "a worker has no use for it")
		default:
			require.NotZero(t, passed, "neither API nor worker gets %s; add it to x-settings", name)
		}
	}

	for name, service := range composeProject(t).Services {
		if name != "api" && name != "worker" {
			continue
		}
		variables := map[string]string{}
		for name, value := range service.Environment {
			if value != nil {
				variables[name] = *value
			}
		}
		cfg, err := config.Parse(variables)
		require.NoError(t, err)
		defaults, err := config.Parse(nil)
		require.NoError(t, err)
		require.Equal(t, defaults.WorkerActivities, cfg.WorkerActivities)
		require.Equal(t, defaults.SourceTimeout, cfg.SourceTimeout)
		require.Empty(t, cfg.APITokens)
		grace := time.Duration(*service.StopGracePeriod)
		require.Greater(t, grace, cfg.ShutdownTimeout+5*time.Second)
	}
}

// TestMakeSecrets checks that `make secrets` writes each password once, keeps those
// that .secrets has, and adds those that it lacks.
func TestMakeSecrets(t *testing.T) {
	t.Parallel()
	makefile, err := filepath.Abs(repository + "/Makefile")
	require.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, ".secrets")
	makeSecrets := func() []string {
		cmd := exec.CommandContext(t.Context(), "make", "--file", makefile, "secrets")
		cmd.Dir = dir
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, string(output))
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	first := makeSecrets()
	for i, name := range secrets(t) {
		require.Regexp(t, "^export "+name+"=[0-9a-f]{32}$", first[i])
	}
	require.Regexp(t, "^#export API_TOKEN=[0-9a-f]{32}$", first[len(first)-1], "a token that is ready to be used")
	require.Len(t, first, len(secrets(t))+2)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.Equal(t, first, makeSecrets())

	old := append([]string{}, first[:2]...)
	old = append(old, "export API_TOKEN=mine")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(old, "\n")+"\n"), 0o600))
	completed := makeSecrets()
	require.Equal(t, old, completed[:len(old)])
	require.Len(t, completed, len(secrets(t))+1)
}

// TestComposeAndKubernetesAgree checks that the manifests in docs/kubernetes
// confine API, worker and migrations as docker-compose.yml does. Kubernetes limits PIDs by a
// setting of its nodes.
func TestComposeAndKubernetesAgree(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	dockerfile, err := os.ReadFile(repository + "/Dockerfile")
	require.NoError(t, err)
	for _, name := range []string{"api", "worker", "migrate"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(repository + "/docs/kubernetes/" + name + ".yaml")
			require.NoError(t, err)
			var deployment struct {
				Kind string
				Spec struct {
					Template struct {
						Spec struct {
							Automount       *bool `yaml:"automountServiceAccountToken"`
							SecurityContext struct {
								RunAsNonRoot   bool `yaml:"runAsNonRoot"`
								RunAsUser      int  `yaml:"runAsUser"`
								SeccompProfile struct {
									Type string
								} `yaml:"seccompProfile"`
							} `yaml:"securityContext"`
							Containers []struct {
								Resources struct {
									Limits struct {
										Memory string
									}
								}
								SecurityContext struct {
									AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
									ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
									Capabilities             struct {
										Drop, Add []string
									}
								} `yaml:"securityContext"`
							}
						}
					}
				}
			}
			require.NoError(t, yaml.NewDecoder(bytes.NewReader(text)).Decode(&deployment)) // the first document
			require.Contains(t, []string{"Deployment", "Job"}, deployment.Kind)
			service, pod := project.Services[name], deployment.Spec.Template.Spec
			require.Len(t, pod.Containers, 1)
			container := pod.Containers[0]

			require.Equal(t, service.CapDrop, container.SecurityContext.Capabilities.Drop)
			require.Equal(t, service.CapAdd, container.SecurityContext.Capabilities.Add)
			require.Equal(t, service.ReadOnly, container.SecurityContext.ReadOnlyRootFilesystem)
			require.Equal(t, new(bool), container.SecurityContext.AllowPrivilegeEscalation, "no-new-privileges")
			require.Equal(t, "RuntimeDefault", pod.SecurityContext.SeccompProfile.Type, "Docker's default")
			require.Equal(t, fmt.Sprintf("%dMi", service.MemLimit>>20), container.Resources.Limits.Memory)
			require.Equal(t, new(bool), pod.Automount)
			require.True(t, pod.SecurityContext.RunAsNonRoot)
			require.Contains(t, string(dockerfile), fmt.Sprintf("--uid %d", pod.SecurityContext.RunAsUser))
			require.Empty(t, service.User, "the image's")
		})
	}
}

// TestComposeVariables compares the variables of docker-compose.yml with .env, and
// checks that no password has a default.
func TestComposeVariables(t *testing.T) {
	t.Parallel()
	compose, err := os.ReadFile(composeFile)
	require.NoError(t, err)
	env, err := os.ReadFile(composeEnv)
	require.NoError(t, err)
	used := map[string]bool{}
	for _, found := range regexp.MustCompile(`\$\{([A-Z0-9_]+)`).FindAllSubmatch(compose, -1) {
		used[string(found[1])] = true
	}
	defined := map[string]bool{}
	for _, paragraph := range strings.Split(string(env), "\n\n") {
		for _, found := range regexp.MustCompile(`(?m)^([A-Z0-9_]+)=`).FindAllStringSubmatch(paragraph, -1) {
			defined[found[1]] = true
		}
	}
	for _, name := range secrets(t) {
		require.Contains(t, string(env), name, ".env does not explain it")
		require.NotContains(t, defined, name, "a password with a default")
		defined[name] = true

		others := slices.DeleteFunc(withTestSecrets(t), func(v string) bool { return strings.HasPrefix(v, name+"=") })
		_, err := loadCompose(t, others)
		require.ErrorContains(t, err, name)
		_, err = loadCompose(t, append(others, name+"="))
		require.ErrorContains(t, err, name, "an empty one is as bad")
	}
	require.NotContains(t, defined, "API_TOKEN", "a secret in a tracked file")
	defined["API_TOKEN"] = true // in .secrets, may be absent
	require.Equal(t, slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(defined)))
}
