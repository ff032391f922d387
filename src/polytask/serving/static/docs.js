// The routes of the OpenAPI document, without a library from elsewhere.
"use strict";

function made(tag, content) {
  const node = document.createElement(tag);
  if (content !== undefined) node.textContent = content;
  return node;
}

function fields(document_, schema) {
  const name = (schema.$ref || "").split("/").pop();
  const own = name ? document_.components.schemas[name] : schema;
  const required = new Set(own.required || []);
  return Object.entries(own.properties || {}).map(([field, of]) => {
    const kinds = (of.anyOf || [of]).map((one) => one.const || one.type || (one.$ref || "").split("/").pop());
    return `${field}${required.has(field) ? "" : "?"}: ${[...new Set(kinds)].join(" | ")}`;
  });
}

async function show() {
  const key = sessionStorage.getItem("key");
  const response = await fetch("/openapi.json", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  const content = await response.json();
  const root = document.getElementById("routes");
  if (!response.ok) return root.append(made("p", `${content.error.message}. Give the key on the page first.`));
  const groups = new Map();
  for (const [path, methods] of Object.entries(content.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const [tag] = route.tags || ["other"];
      groups.set(tag, [...(groups.get(tag) || []), [method.toUpperCase(), path, route]]);
    }
  }
  for (const [tag, routes] of groups) {
    root.append(made("h2", tag));
    for (const [method, path, route] of routes) {
      const title = made("p");
      title.append(made("code", `${method} ${path}`), made("br"), made("span", route.description || ""));
      root.append(title);
      const body = route.requestBody && route.requestBody.content["application/json"];
      if (body) root.append(made("code", `{ ${fields(content, body.schema).join(", ")} }`));
    }
  }
}

show();
