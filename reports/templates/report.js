(function () {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // Bokeh draws on a canvas, where the style sheet does not reach: text and grid follow the page's colours here.
  function paint(isDark) {
    const ink = isDark ? "#e6eaee" : "#1c232b";
    const soft = isDark ? "#9aa6b2" : "#5b6672";
    const documents = window.Bokeh ? window.Bokeh.documents : [];
    for (const document_ of documents) {
      for (const plot of document_.roots()) {
        for (const side of ["left", "right", "above", "below", "center"]) {
          for (const part of plot[side] || []) {
            if (part.type === "LinearAxis") {
              part.axis_label_text_color = soft;
              part.major_label_text_color = soft;
              part.axis_line_color = soft;
              part.major_tick_line_color = soft;
            } else if (part.type === "Legend") {
              part.label_text_color = ink;
              part.inactive_fill_color = isDark ? "#1a2027" : "#ffffff";
              part.inactive_fill_alpha = 0.7;
            } else if (part.type === "Grid") {
              part.grid_line_color = soft;
            } else if (part.type === "Title") {
              part.text_color = ink;
            } else if (part.type === "ColorBar") {
              part.major_label_text_color = soft;
              part.background_fill_alpha = 0;
            }
          }
        }
        for (const drawn of plot.renderers) {
          if (drawn.glyph && drawn.glyph.type === "Text") {
            drawn.glyph.text_color = { value: ink };
          }
        }
      }
    }
    return documents.length > 0;
  }

  let attempts = 0;
  const timer = setInterval(function () {
    attempts += 1;
    if (paint(dark.matches) || attempts > 200) {
      clearInterval(timer);
    }
  }, 25);
  dark.addEventListener("change", function (event) { paint(event.matches); });

  // Paper shows everything, in ink on white.
  window.addEventListener("beforeprint", function () {
    paint(false);
    for (const folded of document.querySelectorAll("details:not([open])")) {
      folded.open = true;
      folded.dataset.folded = "1";
    }
  });
  window.addEventListener("afterprint", function () {
    paint(dark.matches);
    for (const unfolded of document.querySelectorAll("details[data-folded]")) {
      unfolded.open = false;
      delete unfolded.dataset.folded;
    }
  });
})();
