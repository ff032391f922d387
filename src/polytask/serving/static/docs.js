// The routes of the OpenAPI document, without a library from elsewhere.
"use strict";

function made(tag, content, ...classes) {
  const node = document.createElement(tag);
  if (content !== undefined) node.textContent = content;
  node.classList.add(...classes);
  return node;
}

const nameOf = (schema) => (schema.$ref || "").split("/").pop();

// A type in few words: string, [string | [string]], InferParameters.
function typeOf(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.anyOf) return [...new Set(schema.anyOf.filter((one) => one.type !== "null").map(typeOf))].join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${typeOf(schema.items || {})}]`;
  const [values] = Object.values(schema.patternProperties || {});
  if (values) return `{NAME: ${typeOf(values)}}`;
  return schema.type || "any";
}

function fields(content, schema) {
  const name = nameOf((schema.anyOf || [schema]).find((one) => one.$ref) || {});
  const own = name ? content.components.schemas[name] : schema;
  const required = new Set(own.required || []);
  return Object.entries(own.properties || {}).map(([field, of]) => `${field}${required.has(field) ? "" : "?"}: ${typeOf(of)}`);
}

// Text whose parts between double backquotes are code.
function marked(text) {
  const node = made("p");
  node.append(...text.split("``").map((part, n) => n % 2 ? made("code", part) : part));
  return node;
}

function described(content, method, path, route) {
  const node = made("div", undefined, "route"), title = made("p");
  title.append(made("code", `${method} ${path}`));
  node.append(title, marked(route.description || ""));
  const body = route.requestBody && route.requestBody.content["application/json"];
  const given = body ? fields(content, body.schema) : [];
  if (given.length) node.append(made("code", `{ ${given.join(", ")} }`));
  return node;
}

async function show() {
  const key = sessionStorage.getItem("key");
  const response = await fetch("/openapi.json", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  const content = await response.json();
  const root = document.getElementById("routes");
  if (!response.ok) return root.append(made("p", `${content.error.message}. Enter the key on the page first.`));
  const groups = new Map();
  for (const [path, methods] of Object.entries(content.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const [tag] = route.tags || ["other"];
      groups.set(tag, [...(groups.get(tag) || []), described(content, method.toUpperCase(), path, route)]);
    }
  }
  for (const [tag, routes] of groups) root.append(made("h2", tag), ...routes);
}

show();
