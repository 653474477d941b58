// Tiles of samples; a click (or Enter, Space) tells Python which row was picked.
export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".gallery")
  const focused = parentElement.activeElement?.dataset?.row

  const make = (tag, className, text) => {
    const element = document.createElement(tag)
    if (className) element.className = className
    if (text !== undefined) element.textContent = text
    return element
  }

  const picture = sample => {
    const box = make("div", "picture")
    if (sample.image) {
      const image = make("img")
      image.src = sample.image
      image.alt = ""
      box.append(image)
    } else {
      box.append(make("div", "words", sample.words))
    }
    if (sample.marker) box.append(make("span", "marker", sample.marker))
    return box
  }

  // a sentence whose words are coloured by what they do to the student's opinion
  const paragraph = spans => {
    const box = make("p", "painted")
    box.append(...spans.map(span => {
      const word = make("span", span.cut ? "cut" : ["against", "", "for"][span.sign + 1], span.text)
      word.style.background = span.color
      return word
    }))
    return box
  }

  // one sentence, or both of a pair side by side
  const sentences = sample => {
    const box = make("div", "sentences")
    const plain = sample.sentences.map(text => make("p", "", text))
    box.append(...(sample.painted.length ? sample.painted.map(paragraph) : plain))
    if (sample.marker) box.append(make("span", "flag", sample.marker))
    return box
  }

  const tile = sample => {
    const button = make("button", sample.sentences.length ? "tile line" : "tile")
    button.type = "button"
    button.dataset.row = sample.row
    button.setAttribute("aria-pressed", String(sample.row === data.primary))
    button.setAttribute("aria-label", sample.description)
    button.title = sample.description
    button.onclick = () => {
      setTriggerValue("picked", sample.row)
      // the sample's panel, where it stands below the tiles and not beside them
      const panel = document.querySelector(".st-key-room")
      if (panel?.getBoundingClientRect().left < root.getBoundingClientRect().right) {
        panel.scrollIntoView({ behavior: "smooth", block: "center" })
      }
    }

    const given = make("div", "label")
    given.append(make("span", "muted", "given "), sample.given)
    const suggested = make("div", "label")
    suggested.append(make("span", "muted", sample.suggested ? "rather " : "teacher agrees"), sample.suggested)

    const bar = make("div", "bar")
    const filled = make("i")
    filled.style.width = `${50 * Math.min(sample.weight, 2)}%` // the middle is neutral
    filled.style.background = sample.color
    bar.append(filled, make("b"))

    const weight = make("div", "weight")
    const sign = make("span", "", sample.sign)
    sign.style.color = sample.color
    weight.append(sign, bar, make("span", "", sample.weight.toFixed(2)))
    if (!sample.sentences.length) {
      button.append(picture(sample), given, suggested, weight)
      return button
    }
    const facts = make("div", "facts")
    facts.append(given, suggested, weight)
    if (sample.raters) facts.append(make("div", "label muted", sample.raters))
    button.append(sentences(sample), facts)
    return button
  }

  const thumbnail = sample => {
    const box = make(sample.row === null ? "div" : "button", "tile thumbnail")
    if (sample.row === null) box.setAttribute("role", "img")
    else {
      box.type = "button"
      box.dataset.row = sample.row
      box.onclick = () => setTriggerValue("picked", sample.row)
    }
    box.setAttribute("aria-label", sample.description)
    box.title = sample.description
    const figure = make("div", "label muted", sample.figure)
    figure.style.color = sample.color
    box.append(picture(sample), make("div", "label", sample.label), figure)
    return box
  }

  root.style.setProperty("--columns", data.columns)
  root.replaceChildren(
    ...data.groups.flatMap(group => {
      const title = make("h3", "title", group.title)
      const lines = (group.samples ?? []).some(sample => sample.sentences.length)
      const tiles = make("div", group.thumbnails ? "tiles small" : lines ? "tiles lines" : "tiles")
      tiles.append(...(group.thumbnails ? group.thumbnails.map(thumbnail) : group.samples.map(tile)))
      return [title, tiles]
    }),
  )
  if (focused !== undefined) root.querySelector(`[data-row="${focused}"]`)?.focus({ preventScroll: true })
}
